"""The stack in containers: images, services, runs, restarts, persistence. Needs a container engine.

Base images are pulled, or are the stand-ins that tests/compose/make_base_images.sh imports. All tests of this file
share one stack; each starts its own runs. With IMAGE_TAG=local in the environment, the tests use the existing images
with that tag and build none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.compose.compose_files import services
from tests.compose.stack import AirflowClient, Stack, compose_command, missing_engine

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(3_600)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    command = compose_command()
    if reason := missing_engine():
        pytest.skip(reason)
    if command is None:
        pytest.skip("`docker compose` is not installed")
    stack = Stack(command, tmp_path_factory.mktemp("stack"))
    try:
        stack.build()
        stack.up()
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "20")
    assert stack.volumes() == set(), "down --volumes left data behind"


def test_all_services_are_healthy_and_no_run_starts_by_itself(stack: Stack) -> None:
    states = stack.states()
    assert states.pop("init") == "exited 0"
    assert states == dict.fromkeys(set(services()) - {"init"}, "running healthy")
    dag = AirflowClient(stack).dag()
    assert dag["is_paused"] is False
    assert [run for run in AirflowClient(stack).runs() if run["run_type"] == "scheduled"] == []
    assert stack.compose("exec", "scheduler", "id", "--user").strip() != "0"


def test_a_run_from_the_api_uses_its_parameters_and_publishes(stack: Stack) -> None:
    airflow = AirflowClient(stack)
    airflow.dag()
    run_id = airflow.trigger(variance_target=0.6, full_run=True)
    assert airflow.wait_for_end(run_id) == "success"
    slug, files = stack.published()
    assert any(name.startswith("results/") and name.endswith(".parquet") for name in files)
    assert "results_csv/pca_features.csv" in files
    s3 = stack.s3()
    assert stack.manifest()["run_id"] == run_id
    report = json.loads(s3.get_object(Bucket="fruits", Key=f"runs/{slug}/report.json")["Body"].read())
    assert 0.6 <= report["variance_reached"] < 0.8
    assert report["images"] > 0
    # The scheduler's container ran this task; the API server reads its log.
    assert "features" in airflow.log_of(run_id, "verify_results", airflow.tasks(run_id)["verify_results"]["try_number"])


def test_a_run_without_changes_creates_no_cluster_and_leaves_the_published_state(stack: Stack) -> None:
    airflow = AirflowClient(stack)
    airflow.dag()
    assert airflow.wait_for_end(airflow.trigger()) == "success"
    before = stack.published()
    run_id = airflow.trigger()
    assert airflow.wait_for_end(run_id) == "success"
    tasks = airflow.tasks(run_id)
    skipped = {"plan_cluster", "publish_code", "create_cluster", "add_featurize", "add_pca", "publish_results"}
    assert {task: tasks[task]["state"] for task in skipped} == dict.fromkeys(skipped, "skipped")
    assert "nothing has changed since the state" in airflow.log_of(run_id, "plan_cluster", 1)
    assert stack.published() == before


@pytest.mark.parametrize(
    "restarted", [("triggerer", "dag-processor", "scheduler", "api-server"), ("postgres", "store")]
)
def test_a_run_survives_the_restart_of_each_service_but_the_endpoint(stack: Stack, restarted: tuple[str, ...]) -> None:
    airflow = AirflowClient(stack)
    airflow.dag()
    run_id = airflow.trigger(full_run=True)
    airflow.wait_for_task(run_id, "wait_featurize", {"running", "up_for_reschedule", "success"})
    for service in restarted:
        stack.compose("restart", service)
    stack.up()
    assert airflow.wait_for_end(run_id) == "success"
    # The step continued and its sensor found it again: no cluster or step was created twice.
    creators = ("create_cluster", "add_featurize", "add_pca")
    assert {task: airflow.tasks(run_id)[task]["try_number"] for task in creators} == dict.fromkeys(creators, 1)
    assert stack.manifest()["run_id"] == run_id


def test_a_step_that_runs_while_the_endpoint_restarts_fails_with_a_reason(stack: Stack) -> None:
    airflow = AirflowClient(stack)
    airflow.dag()
    if not airflow.runs() or "success" not in {run["state"] for run in airflow.runs()}:
        assert airflow.wait_for_end(airflow.trigger()) == "success"
    before = stack.published()
    run_id = airflow.trigger(full_run=True)
    airflow.wait_for_task(run_id, "wait_featurize", {"running", "up_for_reschedule"})
    stack.compose("restart", "emr")
    assert airflow.wait_for_end(run_id) == "failed"
    tasks = airflow.tasks(run_id)
    failed = next(task for task in ("wait_featurize", "wait_pca") if tasks[task]["state"] == "failed")
    assert "FAILED" in airflow.log_of(run_id, failed, tasks[failed]["try_number"])
    assert stack.published() == before, "a failed run changed the published results"
    assert airflow.wait_for_end(airflow.trigger(full_run=True)) == "success", (
        "the endpoint creates no new clusters after its restart"
    )


def test_down_and_up_keeps_everything(stack: Stack) -> None:
    airflow = AirflowClient(stack)
    airflow.dag()
    run_id = airflow.trigger(full_run=True)
    assert airflow.wait_for_end(run_id) == "success"
    published, runs, volumes = stack.published(), {run["dag_run_id"] for run in airflow.runs()}, stack.volumes()
    stack.compose("down", "--timeout", "30")
    stack.up()
    airflow = AirflowClient(stack)
    assert stack.volumes() == volumes
    assert stack.published() == published
    assert runs <= {run["dag_run_id"] for run in airflow.runs()}
    assert airflow.log_of(run_id, "verify_results", 1)
