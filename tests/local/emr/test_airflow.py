"""Airflow's own EMR operators and sensors against the endpoint."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def context(emr: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """What an operator's ``execute`` needs, and an environment that points EMR at the endpoint."""
    for name, value in {
        "AWS_ENDPOINT_URL_EMR": emr.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-3",
    }.items():
        monkeypatch.setenv(name, value)

    class TaskInstance:
        def xcom_push(self, **_: Any) -> None:
            return None

    return {"ti": TaskInstance(), "task_instance": TaskInstance()}


# The stock operators take s3:// log folders only: for their links they parse LogUri after they have made the cluster.
def test_create_add_wait_and_terminate(emr: Any, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    operators = pytest.importorskip("airflow.providers.amazon.aws.operators.emr")
    sensors = pytest.importorskip("airflow.providers.amazon.aws.sensors.emr")
    for name in ("EmrClusterLink", "EmrLogsLink"):
        monkeypatch.setattr(getattr(operators, name), "persist", lambda *_, **__: None)
        monkeypatch.setattr(getattr(sensors, name), "persist", lambda *_, **__: None)
    common = {"aws_conn_id": None, "region_name": "eu-west-3"}
    create = operators.EmrCreateJobFlowOperator(
        task_id="create", emr_conn_id=None, job_flow_overrides=emr.request(LogUri="s3://bucket/logs"), **common
    )
    cluster = create.execute(context)
    add = operators.EmrAddStepsOperator(
        task_id="add", job_flow_id=cluster, steps=[emr.bash("true"), emr.bash("echo broken >&2; exit 3")], **common
    )
    good, bad = add.execute(context)
    sensor = sensors.EmrStepSensor(task_id="wait", job_flow_id=cluster, step_id=good, **common)
    emr.await_true(lambda: sensor.poke(context), "the sensor sees the step completed")
    failing = sensors.EmrStepSensor(task_id="fail", job_flow_id=cluster, step_id=bad, **common)
    emr.await_step(cluster, bad)
    with pytest.raises(Exception, match=r"Unknown Error.*broken"):
        failing.poke(context)
    terminate = operators.EmrTerminateJobFlowOperator(task_id="terminate", job_flow_id=cluster, **common)
    terminate.execute(context)
    emr.await_cluster(cluster, "TERMINATED")
