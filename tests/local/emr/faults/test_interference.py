"""API calls that are refused, late, or never answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError, ReadTimeoutError

from local.emr.faults.faults import Faults

ONCE = {"retries": {"total_max_attempts": 1}}


@pytest.fixture
def single(emr: Any) -> Any:
    """A client that makes every call once only, as the operators' does."""
    return emr.client_of("eu-west-3", config=Config(**ONCE))


def test_a_glob_throttles_every_action(emr: Any, single: Any) -> None:
    cluster = emr.create()
    fault = {"action": "*", "error": "ThrottlingException", "message": "Rate exceeded", "times": "forever"}
    emr.set_faults({"api": [fault]})
    calls = [
        lambda: single.run_job_flow(**emr.request()),
        lambda: single.add_job_flow_steps(JobFlowId=cluster, Steps=[emr.bash("true")]),
        lambda: single.describe_cluster(ClusterId=cluster),
        lambda: single.list_clusters(),
        lambda: single.list_steps(ClusterId=cluster),
        lambda: single.terminate_job_flows(JobFlowIds=[cluster]),
    ]
    for call in calls:
        with pytest.raises(ClientError, match="Rate exceeded") as refused:
            call()
        assert refused.value.response["Error"]["Code"] == "ThrottlingException"
    named = [match["what"] for match in emr.faults("GET", "/matches")]
    assert named == [
        *("RunJobFlow", "AddJobFlowSteps", "DescribeCluster", "ListClusters", "ListSteps", "TerminateJobFlows")
    ]


def test_a_rule_that_holds_for_a_time_holds_from_its_first_match(tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"api": [{"action": "*", "error": "ServiceUnavailable", "for_seconds": 60, "skip": 1}]}')
    now = [1000.0]
    monkeypatch.setattr("local.emr.faults.faults.time.monotonic", lambda: now[0])
    faults = Faults(path, clock_rate=2.0)
    assert faults.for_action("ListSteps") is None, "the first passes"
    now[0] += 500
    for seconds in (0, 10, 19, 1):  # 30 s, a minute on a clock of twice the rate
        now[0] += seconds
        assert faults.for_action("ListSteps") is not None, now
    now[0] += 0.1
    assert faults.for_action("ListSteps") is None


def test_the_api_is_down_with_an_answer(emr: Any, single: Any) -> None:
    fault = {"action": "*", "error": "ServiceUnavailable", "http_status": 503, "for_seconds": 600}
    emr.set_faults({"api": [fault]})
    with pytest.raises(ClientError) as refused:
        single.list_clusters()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    # 600 s are 1 s on this endpoint's clock; botocore's own repetitions do not bridge that, a caller's patience does.
    emr.await_true(lambda: _answers(single), "the API is up again")


def _answers(client: Any) -> bool:
    try:
        client.list_clusters()
    except ClientError:
        return False
    return True


def test_the_api_is_down_without_an_answer(emr: Any, single: Any) -> None:
    emr.set_faults({"api": [{"action": "*", "drops": True, "times": 2}]})
    for _ in range(2):
        with pytest.raises(HTTPClientError) as dropped:
            single.list_clusters()
        assert not isinstance(dropped.value, ReadTimeoutError), "it is told at once"
    assert single.list_clusters()["Clusters"] is not None


def test_a_dropped_connection_may_hide_that_the_action_took_effect(emr: Any, single: Any) -> None:
    emr.set_faults({"api": [{"action": "RunJobFlow", "drops": True, "when": "after"}]})
    with pytest.raises((HTTPClientError, EndpointConnectionError)):
        single.run_job_flow(**emr.request(Name="exists without an answer"))
    assert emr.client.list_clusters()["Clusters"][0]["Name"] == "exists without an answer"


def test_an_answer_comes_later_than_the_client_waits_and_the_action_took_effect_once(emr: Any) -> None:
    patience = emr.client_of("eu-west-3", config=Config(read_timeout=0.5, **ONCE))
    emr.set_faults({"api": [{"action": "RunJobFlow", "delay_seconds": 1200, "when": "after"}]})  # 2 s on this clock
    with pytest.raises(ReadTimeoutError):
        patience.run_job_flow(**emr.request(Name="answered too late"))
    names = [cluster["Name"] for cluster in emr.client.list_clusters()["Clusters"]]
    assert names.count("answered too late") == 1


def test_rules_are_added_counted_listed_and_deleted_over_http(emr: Any) -> None:
    emr.set_faults({"api": [{"action": "ListClusters", "error": "AccessDeniedException"}]})
    with pytest.raises(ClientError):
        emr.client.list_clusters()
    emr.faults("POST", scenario={"api": [{"action": "List*", "error": "InvalidRequestException", "skip": 5}]})
    emr.client.list_clusters()
    assert [rule["matched"] for rule in emr.faults("GET")["api"]] == [1, 1], "the counters of the first stay"
    [match] = emr.faults("GET", "/matches")
    assert (match["kind"], match["rule"], match["what"]) == ("api", 0, "ListClusters"), "one that passes is no match"
    assert emr.faults("DELETE") == {}
    assert emr.faults("GET", "/matches") == []
