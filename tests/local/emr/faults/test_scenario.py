"""A fault scenario: its parser, its counters, and its sources (a file, HTTP)."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.emr.faults.faults import Faults
from local.emr.faults.scenario import ScenarioError, parse


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ('{"apis": []}', "unknown key 'apis'"),
        ('{"api": {}}', "'api' must be a list"),
        ('{"api": [{"acton": "RunJobFlow", "error": "x"}]}', r"api\[0\]: unknown key 'acton'"),
        ('{"api": [{"error": "x"}]}', r"api\[0\]: the key 'action' is missing"),
        ('{"api": [{"action": "RunJobFlow"}]}', "give 'error', 'drops', 'delay_seconds' or more"),
        ('{"api": [{"action": "RunJobFlow", "error": "x", "when": "later"}]}', r"api\[0\]\.when must be one of"),
        ('{"api": [{"action": "RunJobFlow", "error": "x", "times": 0}]}', r"api\[0\]\.times"),
        ('{"api": [{"action": "RunJobFlow", "error": "x", "times": "always"}]}', r"api\[0\]\.times"),
        ('{"api": [{"action": "RunJobFlow", "error": "x", "http_status": "400"}]}', r"http_status must be of type int"),
        ('{"api": [{"action": "RunJobFlow", "error": "x", "skip": -1}]}', "must not be negative"),
        ('{"clusters": [{"fails": "burn"}]}', r"clusters\[0\]\.fails must be one of bootstrap, capacity, lost"),
        ('{"steps": [{"name": "pca"}]}', "either 'exit_code', or 'hangs'"),
        ('{"steps": [{"name": "pca", "hangs": true, "exit_code": 1}]}', "either 'exit_code', or 'hangs'"),
    ],
)
def test_a_typo_is_an_error_that_names_the_key(scenario: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        parse(scenario)


def test_the_next_rule_takes_what_the_first_skips(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    first = {"action": "RunJobFlow", "error": "first", "skip": 1, "times": 2}
    path.write_text(json.dumps({"api": [first, {"action": "RunJobFlow", "error": "second", "times": "forever"}]}))
    faults = Faults(path)
    assert faults.for_action("ListSteps") is None
    errors = [fault.error if fault else None for fault in (faults.for_action("RunJobFlow") for _ in range(5))]
    assert errors == ["second", "first", "first", "second", "second"], (
        "the next rule takes the calls that the first one skips"
    )


def test_for_seconds_counts_from_the_first_match(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"api": [{"action": "*", "error": "ServiceUnavailable", "for_seconds": 60, "skip": 1}]}')
    now = [1000.0]
    monkeypatch.setattr("local.emr.faults.faults.time.monotonic", lambda: now[0])
    faults = Faults(path, clock_rate=2.0)
    assert faults.for_action("ListSteps") is None, "skipped"
    now[0] += 500
    for seconds in (0, 10, 19, 1):  # 30 s, a minute on a clock of twice the rate
        now[0] += seconds
        assert faults.for_action("ListSteps") is not None, now
    now[0] += 0.1
    assert faults.for_action("ListSteps") is None


def test_a_changed_file_is_read_again_and_an_invalid_one_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text("{}")
    faults = Faults(path)
    assert faults.for_step("pca") is None
    path.write_text('{"steps": [{"name": "p*", "exit_code": 7, "times": "forever"}]}')
    fault = faults.for_step("pca")
    assert fault is not None
    assert fault.exit_code == 7
    path.write_text('{"step": []}')
    for _ in range(2):
        with pytest.raises(ScenarioError, match=r"faults\.json: unknown key 'step'"):
            faults.for_step("pca")
    path.write_text("{}")
    os.utime(path, ns=(0, 0))
    assert faults.for_step("pca") is None


def test_an_invalid_scenario_is_rejected_over_http_and_the_old_one_stays(emr: Any) -> None:
    emr.set_faults({"steps": [{"name": "pca", "hangs": True}]})
    with pytest.raises(urllib.error.HTTPError) as refused:
        emr.set_faults({"steps": [{"nam": "pca"}]})
    with refused.value as answer:
        assert answer.code == 400
        assert "unknown key 'nam'" in answer.read().decode()
    with urllib.request.urlopen(f"{emr.url}/local-emr/faults") as answer:
        assert json.load(answer)["steps"][0]["name"] == "pca", "the old one stays"


def test_rules_are_added_counted_listed_and_deleted_over_http(emr: Any) -> None:
    emr.set_faults({"api": [{"action": "ListClusters", "error": "AccessDeniedException"}]})
    with pytest.raises(ClientError):
        emr.client.list_clusters()
    emr.faults("POST", scenario={"api": [{"action": "List*", "error": "InvalidRequestException", "skip": 5}]})
    emr.client.list_clusters()
    assert [rule["matched"] for rule in emr.faults("GET")["api"]] == [1, 1], "the counters of the first stay"
    [match] = emr.faults("GET", "/matches")
    assert (match["kind"], match["rule"], match["what"]) == ("api", 0, "ListClusters"), "a skipped call is no match"
    assert emr.faults("DELETE") == {}
    assert emr.faults("GET", "/matches") == []


def test_an_endpoint_reads_its_scenario_from_a_file(start_endpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"api": [{"action": "ListClusters", "error": "AccessDeniedException"}]}')
    _, emr = start_endpoint("--faults", str(path))
    with pytest.raises(ClientError, match="AccessDeniedException"):
        emr.client.list_clusters()
    path.write_text('{"api": [{"actoin": "ListClusters"}]}')
    with pytest.raises(ClientError, match="unknown key 'actoin'"):
        emr.client.list_clusters()
    path.write_text("{}")
    assert emr.client.list_clusters()["Clusters"] == []


def test_an_endpoint_with_an_invalid_scenario_does_not_start(start_endpoint: Any, tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"api": [{"actoin": "ListClusters"}]}')
    with pytest.raises(RuntimeError, match=r"(?s)did not come up.*unknown key 'actoin'"):
        start_endpoint("--faults", str(path))
