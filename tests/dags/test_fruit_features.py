"""The DAG: it parses, cheaply; its dangerous orderings hold; its settings and parameters reach it."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from include.operators.add_steps import AddSteps
from include.operators.create_cluster import CreateCluster
from include.settings.deployment import SettingsError
from include.settings.parameters import RunParams

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "dags" / "fruit_features.py"
HEAVY = ("tensorflow", "keras", "pyspark", "sklearn", "ai_edge_litert", "pyarrow", "PIL", "moto", "numpy", "pandas")


def parse() -> DAG:
    dag = runpy.run_path(str(FILE))["dag"]
    assert isinstance(dag, DAG)
    return dag


@pytest.fixture(scope="module", autouse=True)
def production() -> Iterator[None]:
    """The settings of a production deployment: the tests' own endpoint would be refused there."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("AWS_ENDPOINT_URL", raising=False)
        yield


@pytest.fixture(scope="module")
def dag(production: None) -> DAG:
    return parse()


def test_dag_files_parse_without_error_or_warning() -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["fruit_features", "fruit_reaper"]
    assert bag.captured_warnings == {}


def upstream(dag: DAG, name: str) -> set[str]:
    return dag.get_task(name).get_flat_relative_ids(upstream=True)


def test_nothing_is_published_that_has_not_been_verified(dag: DAG) -> None:
    publishing = [task for task in dag.tasks if task.outlets]
    assert publishing, "no task publishes"
    for task in publishing:
        assert "verify_results" in upstream(dag, task.task_id), f"put verify_results upstream of {task.task_id}"
        assert task.trigger_rule == "all_success", f"{task.task_id} would publish what verify_results has refused"
    assert {"wait_featurize", "wait_pca"} <= upstream(dag, "verify_results"), "verify what the steps have completed"


def test_a_cluster_does_not_wait_for_airflow_to_verify(dag: DAG) -> None:
    assert not {"verify_results", "publish_results"} & upstream(dag, "terminate_cluster"), (
        "terminate_cluster must hang beside verify_results, not after it: a failed teardown would be green, and "
        "clearing verify_results would make a new cluster"
    )


def test_cluster_is_ended_after_every_task_that_uses_it(dag: DAG) -> None:
    users = {task.task_id for task in dag.tasks if task.task_id.startswith(("create_", "add_", "wait_"))}
    assert users == {"create_cluster", "add_featurize", "wait_featurize", "add_pca", "wait_pca"}
    assert users <= upstream(dag, "terminate_cluster")


def test_teardown_ends_the_cluster_whatever_fails_and_its_own_failure_shows(dag: DAG) -> None:
    task = dag.get_task("terminate_cluster")
    assert task.is_teardown, "terminate_cluster must be a teardown, to run after failures"
    assert task.on_failure_fail_dagrun, "without on_failure_fail_dagrun a cluster that lives on gives a green run"


def test_setup_of_the_teardown_comes_before_create(dag: DAG) -> None:
    setups = {task.task_id for task in dag.tasks if task.is_setup}
    assert setups == {"open_run"}
    assert "open_run" in dag.get_task("terminate_cluster").upstream_task_ids
    assert "open_run" in upstream(dag, "create_cluster"), (
        "a create that fails after RunJobFlow has made a cluster: with create as setup its teardown would not run"
    )


def test_close_run_alone_says_how_the_run_ended(dag: DAG) -> None:
    """Marking a run failed skips every task but the teardowns, and a skipped leaf counts as success."""
    leaves = {task.task_id for task in dag.tasks if not task.downstream_task_ids}
    assert leaves == {"close_run"}
    close_run = dag.get_task("close_run")
    assert close_run.upstream_task_ids == {"terminate_cluster", "publish_results"}, "it comes when all has ended"
    assert close_run.is_teardown, "else it is skipped with the rest"
    assert close_run.on_failure_fail_dagrun, "else its failure does not show"


def test_a_run_tells_what_it_has_cost_also_when_it_has_failed(dag: DAG) -> None:
    task = dag.get_task("report_cost")
    assert task.is_teardown, "it would be skipped after a failure"
    assert "terminate_cluster" in upstream(dag, "report_cost"), "an instance that runs has no end to count to"
    assert "report_cost" in upstream(dag, "publish_results"), "the manifest is written once, and has the cost"


def test_a_cluster_may_be_made_by_no_task_that_its_teardown_does_not_know(dag: DAG) -> None:
    creators = {task.task_id for task in dag.tasks if isinstance(task, (CreateCluster, AddSteps))}
    teardown: Any = dag.get_task("terminate_cluster")
    assert set(teardown.creators) == creators


def test_clearing_the_verification_clears_nothing_before_it(dag: DAG) -> None:
    """Airflow clears a task's setups with it: what close_run is the teardown of would come along."""
    cleared = dag.partial_subset("verify_results", include_downstream=True, include_upstream=False)
    assert set(cleared.task_dict) == {"verify_results", "publish_results", "close_run"}


def test_everything_is_checked_before_anything_is_paid_for(dag: DAG) -> None:
    assert dag.roots == [dag.get_task("open_run")]
    assert {"open_run", "plan_cluster", "publish_code"} <= upstream(dag, "create_cluster")


def test_steps_run_in_their_order(dag: DAG) -> None:
    assert "wait_featurize" in upstream(dag, "add_pca"), "pca reads what featurize has completed"


def test_no_time_limit_of_the_run_can_skip_the_teardown(dag: DAG) -> None:
    assert dag.dagrun_timeout is None, "dagrun_timeout skips all that is unfinished, the teardown too"


def test_no_trigger_rule_lets_a_task_run_after_a_failure(dag: DAG) -> None:
    for task in dag.tasks:
        if not task.is_teardown:
            assert task.trigger_rule == "all_success", f"{task.task_id} would run after a failure"


def test_runs_do_not_pile_up(dag: DAG) -> None:
    assert dag.catchup is False
    assert dag.max_active_runs == 1


@pytest.mark.parametrize("name", ["wait_featurize", "wait_pca"])
def test_sensor_frees_its_worker_and_ends_some_day(dag: DAG, name: str) -> None:
    task: Any = dag.get_task(name)
    longest = timedelta(minutes=dag.params.get_param("step_time_limit_minutes").schema["maximum"])
    assert task.mode == "reschedule", f"{name} would hold a worker for hours"
    assert longest.total_seconds() < task.timeout < 86_400, "the default is seven days; a step's own limit comes first"
    assert task.deferrable is False, "deferred, it gives up after 60 looks"


def test_cluster_and_steps_are_found_by_what_was_really_made(dag: DAG) -> None:
    for job in ("featurize", "pca"):
        sensor: Any = dag.get_task(f"wait_{job}")
        assert f"add_{job}" in sensor.job_flow_id
        assert f"add_{job}" in sensor.step_id


def test_dag_explains_itself(dag: DAG) -> None:
    assert dag.doc_md is not None
    for task in dag.tasks:
        assert f"`{task.task_id}`" in dag.doc_md, f"tell in the docstring of {FILE.name} what {task.task_id} does"
    assert dag.description
    assert dag.tags


def test_other_dags_can_follow_the_results(dag: DAG) -> None:
    outlets = {task.task_id: [asset.name for asset in task.outlets] for task in dag.tasks if task.outlets}
    assert outlets == {"publish_results": ["fruit_features_results"]}


def test_form_is_that_of_the_run_parameters(dag: DAG) -> None:
    dag.params.validate()
    assert RunParams.from_params(dag.params.dump()) == RunParams()


def test_defaults_of_the_deployment(dag: DAG) -> None:
    assert dag.schedule == "@daily"
    assert dag.timezone.key == "Europe/Paris"
    assert {task.owner for task in dag.tasks} == {"data-engineering"}
    assert dag.start_date < datetime.now(UTC), "a start in the future would hold back runs"
    assert dag.on_failure_callback is None


def test_settings_shape_the_dag(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "FRUITS_PROFILE": "local",
        "FRUITS_SCHEDULE": "0 5 * * 1",
        "FRUITS_TIMEZONE": "UTC",
        "FRUITS_START_DATE": "2026-06-01",
        "FRUITS_OWNER": "fruit-team",
        "FRUITS_RETRIES": "0",
        "FRUITS_POKE_INTERVAL_SECONDS": "7",
        "FRUITS_REGION": "eu-central-1",
        "FRUITS_ALLOWED_REGIONS": "eu-central-1",
        "FRUITS_AWS_CONN_ID": "fruit_account",
        "FRUITS_FAILURE_NOTIFIER": json.dumps(
            {
                "path": "airflow.providers.amazon.aws.notifications.sns.SnsNotifier",
                "arguments": {"target_arn": "arn:aws:sns:eu-central-1:1:fruits", "message": "failed"},
            }
        ),
    }.items():
        monkeypatch.setenv(name, value)
    dag = parse()
    assert dag.schedule == "0 5 * * 1"
    assert dag.timezone.key == "UTC"
    assert (dag.start_date.year, dag.start_date.month) == (2026, 6)
    assert {task.owner for task in dag.tasks} == {"fruit-team"}
    assert {task.retries for task in dag.tasks} == {0}
    assert type(dag.on_failure_callback).__name__ == "SnsNotifier"
    emr: list[Any] = [task for task in dag.tasks if hasattr(task, "aws_conn_id")]
    assert len(emr) == 6
    assert {task.aws_conn_id for task in emr} == {"fruit_account"}
    assert {task.region_name for task in emr} == {"eu-central-1"}
    sensors: list[Any] = [dag.get_task(name) for name in ("wait_featurize", "wait_pca")]
    assert {task.poke_interval for task in sensors} == {7}


def test_schedule_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUITS_SCHEDULE", "none")
    assert parse().schedule is None


def test_wrong_setting_is_an_import_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUITS_TIMEZONE", "Mars")
    with pytest.raises(SettingsError, match="FRUITS_TIMEZONE='Mars'"):
        parse()


@pytest.fixture(scope="module")
def parsed(production: None) -> dict[str, Any]:
    """What parsing the file in a new process brings in, beyond what Airflow and its provider do by themselves."""
    code = f"""
import json, sys, warnings
import airflow.sdk, airflow.sdk.io
import airflow.providers.amazon.aws.operators.emr, airflow.providers.amazon.aws.sensors.emr
before = set(sys.modules)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import runpy
    runpy.run_path({str(FILE)!r})
print(json.dumps({{"new": sorted(set(sys.modules) - before), "warnings": [str(item.message) for item in caught]}}))
"""
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environ
    )
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def test_parsing_imports_nothing_heavy(parsed: dict[str, Any]) -> None:
    roots = {name.partition(".")[0] for name in parsed["new"]}
    assert "include" in roots
    found = sorted(roots & set(HEAVY))
    assert not found, f"the dag-processor parses all day: import {', '.join(found)} inside the function that needs it"


def test_parsing_warns_of_nothing(parsed: dict[str, Any]) -> None:
    assert parsed["warnings"] == []
