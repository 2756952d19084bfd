"""The DAG: it parses fast; the orderings that matter hold; settings and parameters reach it."""

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
from airflow.sdk.definitions.param import process_params
from airflow.sdk.exceptions import ParamValidationError

from include.operators.add_steps import AddSteps
from include.operators.create_cluster import CreateCluster
from include.records import Plan
from include.settings.deployment import SettingsError
from include.settings.parameters import RunParams

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "dags" / "fruit_features.py"
HEAVY = (
    "tensorflow",
    "keras",
    "pyspark",
    "sklearn",
    "ai_edge_litert",
    "pyarrow",
    "PIL",
    "moto",
    "numpy",
    "obstore",
    "pandas",
)


def parse() -> DAG:
    dag = runpy.run_path(str(FILE))["dag"]
    assert isinstance(dag, DAG)
    return dag


@pytest.fixture(scope="module", autouse=True)
def production() -> Iterator[None]:
    """The environment of a production deployment, which refuses the endpoint of the tests."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("AWS_ENDPOINT_URL", raising=False)
        yield


@pytest.fixture(scope="module")
def dag(production: None) -> DAG:
    return parse()


def test_ui_shows_the_plan_before_the_cluster_exists(dag: DAG) -> None:
    """Each entry of the record is an XCom of its own, which the UI shows as soon as the task has succeeded."""
    assert {"summary", "sizing"} <= set(Plan.__annotations__)
    assert getattr(dag.get_task("plan_cluster"), "multiple_outputs", False)
    assert "plan_cluster" in upstream(dag, "create_cluster")


@pytest.mark.slow  # starts Airflow's DAG processor; the other tests parse the file without it
def test_dag_files_parse_without_error_or_warning() -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["fruit_features", "fruit_forget", "fruit_reaper"]
    assert bag.captured_warnings == {}


def upstream(dag: DAG, name: str) -> set[str]:
    return dag.get_task(name).get_flat_relative_ids(upstream=True)


def test_only_verified_results_are_published(dag: DAG) -> None:
    publishing = [task for task in dag.tasks if task.outlets]
    assert publishing, "no task publishes"
    for task in publishing:
        assert "verify_results" in upstream(dag, task.task_id), f"put verify_results upstream of {task.task_id}"
        assert task.trigger_rule == "all_success", f"{task.task_id} would publish results that verify_results rejected"
    assert {"wait_featurize", "wait_pca"} <= upstream(dag, "verify_results"), "verify what the steps have completed"


def test_cluster_does_not_run_during_verification(dag: DAG) -> None:
    assert not {"verify_results", "publish_results"} & upstream(dag, "terminate_cluster"), (
        "terminate_cluster must not be downstream of verify_results: a failed teardown would be green, and "
        "clearing verify_results would create a new cluster"
    )


def test_cluster_is_terminated_after_every_task_that_uses_it(dag: DAG) -> None:
    users = {task.task_id for task in dag.tasks if task.task_id.startswith(("create_", "add_", "wait_"))}
    assert users == {"create_cluster", "add_featurize", "wait_featurize", "add_pca", "wait_pca"}
    assert users <= upstream(dag, "terminate_cluster")


def test_teardown_runs_after_any_failure_and_its_own_failure_fails_the_run(dag: DAG) -> None:
    task = dag.get_task("terminate_cluster")
    assert task.is_teardown, "terminate_cluster must be a teardown, to run after failures"
    assert task.on_failure_fail_dagrun, "without on_failure_fail_dagrun a cluster that lives on gives a green run"


def test_setup_of_the_teardown_is_upstream_of_create_cluster(dag: DAG) -> None:
    setups = {task.task_id for task in dag.tasks if task.is_setup}
    assert setups == {"open_run"}
    assert "open_run" in dag.get_task("terminate_cluster").upstream_task_ids
    assert "open_run" in upstream(dag, "create_cluster"), (
        "as the setup, a create_cluster that fails after EMR created the cluster would skip the teardown"
    )


def test_close_run_alone_decides_the_state_of_the_run(dag: DAG) -> None:
    """Marking a run failed skips every task but the teardowns, and a skipped leaf counts as success."""
    leaves = {task.task_id for task in dag.tasks if not task.downstream_task_ids}
    assert leaves == {"close_run"}
    close_run = dag.get_task("close_run")
    assert close_run.upstream_task_ids == {"terminate_cluster", "report_cost", "publish_results"}, (
        "it runs when all tasks have finished, also if publish_results is skipped before the teardowns have ended"
    )
    assert close_run.is_teardown, "otherwise it is skipped with the other tasks"
    assert close_run.on_failure_fail_dagrun, "otherwise its failure does not fail the run"


def test_failed_run_also_reports_its_cost(dag: DAG) -> None:
    task = dag.get_task("report_cost")
    assert task.is_teardown, "it would be skipped after a failure"
    assert "terminate_cluster" in upstream(dag, "report_cost"), "a running instance has no end time yet"
    assert "report_cost" in upstream(dag, "publish_results"), "the manifest is written once and contains the cost"


def test_teardown_knows_all_tasks_that_may_create_a_cluster(dag: DAG) -> None:
    creators = {task.task_id for task in dag.tasks if isinstance(task, (CreateCluster, AddSteps))}
    teardown: Any = dag.get_task("terminate_cluster")
    assert set(teardown.creators) == creators


def test_clearing_the_verification_clears_no_upstream_task(dag: DAG) -> None:
    """Airflow also clears the setups of a teardown; close_run must not have any."""
    cleared = dag.partial_subset("verify_results", include_downstream=True, include_upstream=False)
    assert set(cleared.task_dict) == {"verify_results", "publish_results", "close_run"}


def test_checks_precede_the_cluster(dag: DAG) -> None:
    assert dag.roots == [dag.get_task("open_run")]
    assert {"open_run", "find_changes", "plan_cluster", "publish_code"} <= upstream(dag, "create_cluster")


def test_run_with_nothing_to_do_skips_every_task_that_costs_or_publishes(dag: DAG) -> None:
    """Airflow skips the downstream tasks of plan_cluster that are no teardowns, since their rule is all_success."""
    skipped = {task.task_id for task in dag.get_task("plan_cluster").get_flat_relatives(upstream=False)}
    teardowns = {task.task_id for task in dag.tasks if task.is_teardown}
    assert teardowns == {"terminate_cluster", "report_cost", "close_run"}
    before = {"open_run", "find_changes", "plan_cluster"}
    assert skipped - teardowns == set(dag.task_dict) - teardowns - before
    assert upstream(dag, "plan_cluster") == {"open_run", "find_changes"}


def test_pca_starts_after_featurize(dag: DAG) -> None:
    assert "wait_featurize" in upstream(dag, "add_pca"), "pca reads the output of featurize"


def test_run_has_no_timeout_that_could_skip_the_teardown(dag: DAG) -> None:
    assert dag.dagrun_timeout is None, "dagrun_timeout skips all unfinished tasks, including the teardown"


def test_only_teardowns_run_after_a_failure(dag: DAG) -> None:
    for task in dag.tasks:
        if not task.is_teardown:
            assert task.trigger_rule == "all_success", f"{task.task_id} would run after a failure"


def test_one_run_at_a_time(dag: DAG) -> None:
    assert dag.catchup is False
    assert dag.max_active_runs == 1


def test_sensors_free_their_worker_and_time_out(dag: DAG) -> None:
    longest = timedelta(minutes=dag.params.get_param("step_time_limit_minutes").schema["maximum"])
    for name in ("wait_featurize", "wait_pca"):
        task: Any = dag.get_task(name)
        assert task.mode == "reschedule", f"{name} would occupy a worker for hours"
        assert longest.total_seconds() < task.timeout < 86_400, "the default is 7 days; a step's own limit comes first"
        assert task.deferrable is False, "a deferred sensor gives up after 60 checks"


def test_sensors_use_the_cluster_and_step_ids_of_the_add_tasks(dag: DAG) -> None:
    for job in ("featurize", "pca"):
        sensor: Any = dag.get_task(f"wait_{job}")
        assert f"add_{job}" in sensor.job_flow_id
        assert f"add_{job}" in sensor.step_id


def test_dag_explains_itself(dag: DAG) -> None:
    assert dag.doc_md is not None
    for task in dag.tasks:
        assert f"`{task.task_id}`" in dag.doc_md, f"describe {task.task_id} in the docstring of {FILE.name}"
    assert dag.description
    assert dag.tags


def test_other_dags_can_schedule_on_the_results(dag: DAG) -> None:
    outlets = {task.task_id: [asset.name for asset in task.outlets] for task in dag.tasks if task.outlets}
    assert outlets == {"publish_results": ["fruit_features_results"]}


def test_form_has_the_run_parameters(dag: DAG) -> None:
    dag.params.validate()
    assert RunParams.from_params(dag.params.dump()) == RunParams()


def test_parameters_are_checked_when_a_task_starts_whoever_triggered_the_run(dag: DAG) -> None:
    """include.cluster.rules relies on it. The API checks them when it creates a run, too."""
    with pytest.raises(ParamValidationError, match="ebs_gib"):
        process_params(dag, dag.get_task("open_run"), {"ebs_gib": 9}, suppress_exception=False)


def test_defaults_of_the_deployment(dag: DAG) -> None:
    assert dag.schedule == "@daily"
    assert dag.timezone.key == "Europe/Paris"
    assert {task.owner for task in dag.tasks} == {"data-engineering"}
    assert dag.start_date < datetime.now(UTC), "a start in the future would delay runs"
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
    """The modules (besides Airflow and its provider) and the warnings of parsing the file in a new process."""
    code = f"""
import json, sys, warnings
import airflow.sdk
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


@pytest.mark.slow
def test_parsing_imports_nothing_heavy(parsed: dict[str, Any]) -> None:
    roots = {name.partition(".")[0] for name in parsed["new"]}
    assert "include" in roots
    heavy = sorted(roots & set(HEAVY))
    assert not heavy, f"the dag-processor parses all day: import {', '.join(heavy)} inside the function that needs it"


@pytest.mark.slow
def test_parsing_emits_no_warning(parsed: dict[str, Any]) -> None:
    assert parsed["warnings"] == []
