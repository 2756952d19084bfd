"""open_run finds every problem before anything costs money; close_run decides whether a run is green or red."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.residency.checks import ResidencyError
from include.settings.parameters import RunParams
from include.tasks import run as tasks
from tests.include.run_records import MODEL_DIGEST, found_record, residency_record, run_record

OpenRun = Callable[..., dict[str, Any]]


@pytest.fixture
def open_run(monkeypatch: pytest.MonkeyPatch) -> OpenRun:
    """Return ``open_run`` in the context of a run with some parameters."""

    def call(**params: Any) -> dict[str, Any]:
        run = SimpleNamespace(run_id="manual__2026-11-22", run_after=datetime(2026, 11, 22, 12, tzinfo=UTC))
        sent = {**asdict(RunParams()), "core_instance_types": ["c7g.2xlarge"], **params}
        context = {"params": sent, "dag_run": run, "logical_date": None}
        monkeypatch.setattr(tasks, "get_current_context", lambda: context)
        return tasks.open_run()

    return call


@pytest.mark.slow  # creates AWS clients
def test_run_is_opened_with_everything_that_later_tasks_need_and_nothing_is_written(
    lake: Path, open_run: OpenRun
) -> None:
    before = sorted(lake.rglob("*"))
    run = open_run()
    assert sorted(lake.rglob("*")) == before
    assert run["slug"].startswith("20261122T120000Z-")
    assert run["slug"] in run["cluster_name"]
    assert run["images"] == f"file://{lake}/data"
    assert run["model"]["uri"] == f"file://{lake}/models/{MODEL_DIGEST[:16]}"
    assert run["previous"] == {"run": None, "pca_model": None, "note": "no run had been published before"}
    sent = json.loads(json.dumps(run))
    assert RunParams.from_record(sent["params"]).core_instance_types == ("c7g.2xlarge",)
    assert set(run) == set(run_record()), "the tests' records must have the fields of the task's record"
    repeated = open_run(data_prefix="data/Kiwi")
    assert repeated["slug"] == run["slug"]
    assert repeated["images"] == f"file://{lake}/data/Kiwi"


@pytest.mark.slow  # creates AWS clients
@pytest.mark.usefixtures("lake")
def test_wrong_environment_fails_the_first_task_without_retry(
    open_run: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases: list[tuple[dict[str, str | None], str]] = [
        ({"FRUITS_LAKE": "bucket"}, "FRUITS_LAKE='bucket'"),
        ({"FRUITS_LAKE": None}, r"FRUITS_LAKE .* is not set"),
        ({"FRUITS_REGION": "us-east-1"}, "FRUITS_REGION"),
        ({"FRUITS_PROFILE": "aws"}, "AWS_ENDPOINT_URL"),
        ({"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, r"emr resolves to https://.*amazonaws\.com"),
        ({"AWS_ENDPOINT_URL_S3": "https://s3.eu-west-3.amazonaws.com"}, "s3 resolves to"),
        ({"FRUITS_MODEL": "feedface"}, "FRUITS_MODEL='feedface'"),
    ]
    for environ, message in cases:
        with monkeypatch.context() as patched:
            for name, value in environ.items():
                if value is None:
                    patched.delenv(name)
                else:
                    patched.setenv(name, value)
            with pytest.raises(AirflowFailException, match=message):
                open_run()


@pytest.mark.usefixtures("lake")
def test_a_location_outside_europe_stops_a_run_before_it_accesses_the_lake(
    open_run: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ResidencyError(["FRUITS_LAKE='s3://american': region of the bucket is 'us-east-1', expected eu-west-3"])

    called: list[str] = []
    monkeypatch.setattr(tasks, "check_residency", refuse)
    for name in ("check_access", "abort_uploads", "find_model", "find_previous"):
        monkeypatch.setattr(tasks, name, lambda *_, name=name, **__: called.append(name))
    with pytest.raises(AirflowFailException, match=r"ResidencyError: .*FRUITS_LAKE='s3://american'"):
        open_run()
    assert called == []


def test_wrong_parameters_or_inputs_fail_the_first_task_and_are_named(
    lake: Path, open_run: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "check_residency", lambda *_: residency_record()["before"] | {"endpoints": {}})
    for params, message in [
        ({"variance": 0.9}, "'variance' is not a parameter of this DAG"),
        ({"variance_target": None}, r"SettingsError: .*variance_target and n_components are both empty"),
    ]:
        with pytest.raises(AirflowFailException, match=message):
            open_run(**params)
    assert open_run(variance_target=None, n_components=40)["params"]["n_components"] == 40
    (lake / "models" / "current.json").unlink()
    with pytest.raises(AirflowFailException, match=r"ModelError: no model is published .*make publish ROOT="):
        open_run()


REPORTED: list[list[str]] = []
"""The calls of report_failure: the tasks that have not run."""


UNCHANGED: list[tuple[Any, Any]] = []
"""The calls of report_unchanged."""


def close_after(
    monkeypatch: pytest.MonkeyPatch,
    states: dict[str, str | None],
    run: Any = "the run",
    found: Any = None,
) -> None:
    """Run close_run as the last task of a run whose other tasks have these states."""

    class TaskInstance:
        dag_id, run_id, task_id = "dag", "run", "close_run"

        def xcom_pull(self, task_ids: str) -> Any:
            assert states[task_ids] == "success", "another XCom is from before the task was cleared"
            return {"open_run": run, "find_changes": found}[task_ids]

        def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
            assert (dag_id, run_ids) == ("dag", ["run"])
            return {"run": states | {"close_run": "running"}} if states else {}

    def report_failure(context: Any, others: dict[str, str | None], not_run: list[str]) -> None:
        assert others == states
        REPORTED.append(not_run)

    monkeypatch.setattr(tasks, "get_current_context", lambda: {"ti": TaskInstance()})
    monkeypatch.setattr(tasks, "report_failure", report_failure)
    monkeypatch.setattr(tasks, "report_unchanged", lambda *arguments: UNCHANGED.append(arguments))
    REPORTED.clear()
    UNCHANGED.clear()
    tasks.close_run()


def test_run_is_green_if_every_task_has_succeeded_and_red_with_the_reason_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    close_after(monkeypatch, {"open_run": "success", "publish_results": "success"}, found=found_record())
    assert REPORTED == UNCHANGED == []
    cases: list[tuple[dict[str, str | None], str]] = [
        (
            {"open_run": "success", "wait_pca": "failed", "publish_results": "upstream_failed"},
            "failed: wait_pca; not run: publish_results (upstream_failed)",
        ),
        ({"wait_pca": "success", "publish_results": "skipped"}, "failed: none; not run: publish_results (skipped)"),
        ({"terminate_cluster": "failed", "publish_results": "success"}, "failed: terminate_cluster; not run: none"),
        ({"publish_results": None}, "not run: publish_results (None)"),
        ({"find_changes": "skipped"}, "not run: find_changes (skipped)"),
        ({}, "failed: none; not run: none"),
    ]
    for states, message in cases:
        with pytest.raises(AirflowFailException) as caught:
            close_after(monkeypatch, states)
        assert message in str(caught.value)
        [not_run] = REPORTED
        assert f"not run: {', '.join(not_run) or 'none'}." in str(caught.value)


IDLE = found_record(everything=None, nothing_to_do="nothing has changed since the state 3")


def test_skipped_tasks_are_a_success_only_if_there_was_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    states: dict[str, str | None] = {"open_run": "success", "find_changes": "success"}
    states |= dict.fromkeys(("plan_cluster", "create_cluster", "publish_results"), "skipped")
    states |= dict.fromkeys(("terminate_cluster", "report_cost"), "success")
    close_after(monkeypatch, states, found=IDLE)
    assert REPORTED == []
    assert UNCHANGED == [("the run", IDLE)]
    for run, found in [("the run", found_record()), ("the run", None), (None, IDLE), (None, None)]:
        with pytest.raises(
            AirflowFailException, match=r"failed: none; not run: create_cluster \(skipped\), plan_cluster"
        ):
            close_after(monkeypatch, states, run, found)
        assert UNCHANGED == []
        assert len(REPORTED) == 1


def test_run_with_nothing_to_do_is_red_if_a_task_has_failed_or_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    good: dict[str, str | None] = {"open_run": "success", "find_changes": "success", "plan_cluster": "skipped"}
    for name, state in [("terminate_cluster", "failed"), ("plan_cluster", "upstream_failed"), ("report_cost", None)]:
        with pytest.raises(AirflowFailException, match=name):
            close_after(monkeypatch, good | {name: state}, found=IDLE)
        assert UNCHANGED == []
        assert len(REPORTED) == 1
