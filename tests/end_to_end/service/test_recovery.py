"""Runs under Airflow's scheduler: tasks cleared, tasks killed, clusters leaked.

After each test, no cluster is live.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

from tests.end_to_end.conftest import LIVE, snapshot
from tests.end_to_end.fault_matrix import ACCIDENTS, MARKED_FAILED, TASK_KILLED, WORKER_KILLED
from tests.end_to_end.service.airflow_service import CONF, Service, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NEVER_IDLE = {"idle_timeout_minutes": 1440}


@pytest.fixture(autouse=True)
def no_live_cluster(service: Service) -> Iterator[None]:
    yield
    assert not [name for name, state in service.clusters().items() if state in LIVE]


def features_of(service: Service, run_id: str) -> dict[str, int]:
    """Return the files of features that a run has written, each with its time."""
    files = service.lake.glob(f"segments/{service.run_folder(run_id).name}-*/features.parquet")
    return {path.parent.name: path.stat().st_mtime_ns for path in files}


@pytest.fixture(scope="module")
def failed_in_pca(service: Service) -> str:
    """A run whose featurize step has completed, and whose pca step has failed."""
    with service.faults({"steps": [{"name": "pca*", "exit_code": 3, "stderr": "ValueError: asked for"}]}):
        run_id = service.trigger(CONF)
        assert service.finish(run_id) == "failed"
    assert service.states(run_id)["wait_pca"] == "failed"
    return run_id


@dataclass
class Cleared:
    """A run after one of its tasks was cleared."""

    tasks: set[str]
    """The cleared tasks."""

    state: str
    log: str
    clusters: list[str]
    features: dict[str, int]
    published: dict[str, str]


def clear(service: Service, run_id: str, task: str, *, alone: bool = False) -> Cleared:
    """Clear a task, with or without its downstream tasks, and wait until the run has ended again."""
    last = "terminate_cluster" if alone else "close_run"
    before = service.tasks(run_id)[last]["end_date"]
    tasks = service.clear_alone(run_id, task) if alone else service.clear(run_id, task)
    wait_until(
        lambda: service.tasks(run_id)[last]["end_date"] not in {before, None}, f"{last} has run again", interval=1
    )
    return Cleared(
        tasks,
        service.finish(run_id),
        service.log(run_id, task),
        service.clusters_of(run_id),
        features_of(service, run_id),
        snapshot(service.lake),
    )


@pytest.fixture(scope="module")
def cleared_sensor(service: Service, failed_in_pca: str) -> Cleared:
    return clear(service, failed_in_pca, "wait_pca", alone=True)


@pytest.fixture(scope="module")
def cleared_step(service: Service, failed_in_pca: str, cleared_sensor: Cleared) -> Cleared:
    """The step, cleared after the sensor alone."""
    return clear(service, failed_in_pca, "add_pca")


@pytest.fixture(scope="module")
def cleared_verification(service: Service, failed_in_pca: str, cleared_step: Cleared) -> tuple[Cleared, Cleared]:
    """The verification of the run that has succeeded then, and the state before it was cleared."""
    return clear(service, failed_in_pca, "verify_results"), cleared_step


def test_a_sensor_cleared_alone_names_the_task_to_clear_and_creates_no_cluster(cleared_sensor: Cleared) -> None:
    assert cleared_sensor.state == "failed"
    assert "cleared by itself" in cleared_sensor.log
    assert "clear add_pca with all downstream tasks" in cleared_sensor.log
    assert cleared_sensor.clusters == ["TERMINATED"]


def test_clearing_the_failed_step_creates_one_cluster_and_keeps_the_features(
    cleared_sensor: Cleared, cleared_step: Cleared
) -> None:
    assert "create_cluster" not in cleared_step.tasks
    assert cleared_step.state == "success", cleared_step.log
    assert cleared_step.clusters == ["TERMINATED", "TERMINATED"]
    assert cleared_step.features == cleared_sensor.features != {}
    assert len(cleared_step.published) == 3


def test_clearing_the_verification_creates_no_cluster_and_publishes_the_same(
    cleared_verification: tuple[Cleared, Cleared],
) -> None:
    after, before = cleared_verification
    assert after.tasks == {"verify_results", "publish_results", "close_run"}
    assert after.state == "success"
    assert after.clusters == before.clusters
    assert after.published == before.published


def test_time_limit_and_reaper_work_when_teardown_and_idle_time_out_fail(service: Service) -> None:
    faults = {
        "api": [{"action": "TerminateJobFlows", "error": "AccessDeniedException", "times": "forever"}],
        "steps": [{"name": "featurize*", "hangs": True, "limit_seconds": 5}],
    }
    with service.faults(faults):
        run_id = service.trigger(CONF | NEVER_IDLE)
        assert service.finish(run_id) == "failed"
        assert "Why it failed: TIME LIMIT" in service.log(run_id, "wait_featurize"), "the time limit ended the step"
        assert service.clusters_of(run_id) == ["WAITING"]
    assert service.reap()[0] == "success", "a young cluster is not terminated"
    assert service.clusters_of(run_id) == ["WAITING"]
    with service.variable("fruits_reaper_grace_minutes", "0.01"):
        state, log = service.reap()
    assert state == "failed", "a leak must be visible"
    assert f"its run {run_id} is not live" in log
    wait_until(lambda: service.clusters_of(run_id) == ["TERMINATED"], "the cluster has terminated")


def kill_task(service: Service, run_id: str, task: str, *, worker: bool) -> None:
    """Kill the process of a task as soon as it exists, and its worker on request."""
    task_id = service.tasks(run_id)[task]["id"]

    def find() -> psutil.Process | None:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if " ".join(process.cmdline()).strip() == f"airflow worker -- {task_id}":
                    return process
        return None

    process = wait_until(find, f"{task} runs", interval=0.01)  # some tasks take half a second
    parent = process.parent()
    if worker:
        assert "LocalExecutor" in " ".join(parent.cmdline())
        parent.kill()
    process.kill()


LATE = {"delay_seconds": 8}
"""Long enough to kill a task between the effect of a call and its answer."""

SLOWED = {
    "create_cluster": {"api": [{"action": "RunJobFlow", "when": "after", **LATE}]},
    "add_featurize": {"api": [{"action": "AddJobFlowSteps", "when": "after", **LATE}]},
    "wait_featurize": {"api": [{"action": "DescribeStep", **LATE}]},
    "add_pca": {"api": [{"action": "AddJobFlowSteps", "when": "after", "skip": 1, **LATE}]},
    "terminate_cluster": {"api": [{"action": "TerminateJobFlows", "when": "after", **LATE}]},
}
"""Tasks that are killed after their call took effect and before they got the answer."""


KILLS = 5
"""How often a task may have reported its success before its process is killed: some take less than a second."""


def run_with_killed_task(service: Service, task: str, *, worker: bool) -> str:
    """Trigger runs until a task was killed in the middle; return the id of that run."""
    faults = SLOWED.get(task, {})
    for _ in range(KILLS):
        with service.faults(faults):
            run_id = service.trigger(CONF)
            if faults:
                wait_until(lambda: service.fault_matched("api"), f"{task} has sent its call")
            kill_task(service, run_id, task, worker=worker)
            assert service.finish(run_id) == "success", service.states(run_id)
        if service.tasks(run_id)[task]["try_number"] > 1:
            return run_id
    raise AssertionError(f"{task} has reported its success before each of {KILLS} kills")


def check_recovery(service: Service, task: str, *, worker: bool) -> None:
    """Kill a task of a run: the run continues without help, uses one cluster, and publishes."""
    run_id = run_with_killed_task(service, task, worker=worker)
    assert service.clusters_of(run_id) == ["TERMINATED"]
    assert [manifest["run_id"] for manifest in service.manifests(run_id)] == [run_id]
    assert json.loads((service.lake / "current.json").read_text())["run_id"] == run_id


@pytest.mark.soak
@pytest.mark.parametrize("worker", [False, True], ids=["task", "task and worker"])
@pytest.mark.parametrize("task", ACCIDENTS[TASK_KILLED])
def test_a_run_survives_the_death_of(service: Service, task: str, worker: bool, record_property) -> None:
    record_property("fault", WORKER_KILLED if worker else TASK_KILLED)
    record_property("when", f"in {task}")
    record_property("ended", "success")
    check_recovery(service, task, worker=worker)


@pytest.mark.soak
@pytest.mark.parametrize("task", ACCIDENTS[MARKED_FAILED])
def test_marked_failed_while_it_is_in(service: Service, task: str, record_property) -> None:
    record_property("fault", MARKED_FAILED)
    record_property("when", f"in {task}")
    record_property("ended", "failed")
    before = snapshot(service.lake)
    hanging = {"steps": [{"name": "featurize*" if task == "wait_featurize" else "pca*", "hangs": True}]}
    faults = hanging if task.startswith("wait_") else SLOWED.get(task, {})
    with service.faults(faults):
        run_id = service.trigger(CONF)
        wait_until(lambda: service.states(run_id)[task] not in {None, "scheduled", "queued"}, f"{task} has begun")
        service.mark_failed(run_id)
        assert service.finish(run_id) == "failed"
    assert [state for state in service.clusters_of(run_id) if state in LIVE] == []
    if task != "publish_results":
        assert snapshot(service.lake) == before
        assert service.manifests(run_id) == []
