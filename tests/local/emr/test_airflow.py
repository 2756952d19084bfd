"""Airflow's own EMR operators and sensors against the endpoint."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

COMMON = {"aws_conn_id": None, "region_name": "eu-west-3"}
PI = {
    "Name": "calculate_pi",
    "ActionOnFailure": "CONTINUE",
    "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["/usr/lib/spark/bin/run-example", "SparkPi", "10"]},
}


@pytest.fixture
def context(emr: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What an operator's ``execute`` needs, and an environment that points EMR at the endpoint."""
    from airflow.providers.amazon.aws.operators.emr import EmrClusterLink, EmrLogsLink

    for name, value in {
        "AWS_ENDPOINT_URL_EMR": emr.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-3",
    }.items():
        monkeypatch.setenv(name, value)
    for link in (EmrClusterLink, EmrLogsLink):
        monkeypatch.setattr(link, "persist", lambda *_, **__: None)

    class TaskInstance:
        def xcom_push(self, **_: Any) -> None:
            return None

    return {"ti": TaskInstance(), "task_instance": TaskInstance()}


def create_operator(request: dict[str, Any]) -> Any:
    from airflow.providers.amazon.aws.operators.emr import EmrCreateJobFlowOperator

    return EmrCreateJobFlowOperator(task_id="create", emr_conn_id=None, job_flow_overrides=request, **COMMON)


def test_the_tasks_of_the_providers_example_succeed_and_compute_pi(emr: Any, context: Any) -> None:
    """The operators, sensors and arguments of ``example_emr.py`` in the tests of Airflow's provider, in its order."""
    from airflow.providers.amazon.aws.operators.emr import (
        EmrAddStepsOperator,
        EmrModifyClusterOperator,
        EmrTerminateJobFlowOperator,
    )
    from airflow.providers.amazon.aws.sensors.emr import EmrJobFlowSensor, EmrStepSensor

    emr.ensure_security_configuration("runtime roles")
    master = {"InstanceRole": "MASTER", "InstanceType": "m5.xlarge", "InstanceCount": 1, "Market": "ON_DEMAND"}
    request = {
        "Name": "PiCalc",
        "ReleaseLabel": "emr-7.1.0",
        "Applications": [{"Name": "Spark"}],
        "Instances": {
            "InstanceGroups": [{"Name": "Primary node", **master}],
            "KeepJobFlowAliveWhenNoSteps": True,
            "TerminationProtected": False,
        },
        "Steps": [emr.bash("echo first")],  # in the example this step computes pi too
        "JobFlowRole": "EMR_EC2_DefaultRole",
        "ServiceRole": "EMR_DefaultRole",
        "LogUri": "s3://bucket/",
        "SecurityConfiguration": "runtime roles",
    }
    cluster = create_operator(request).execute(context)
    level = EmrModifyClusterOperator(task_id="modify", cluster_id=cluster, step_concurrency_level=1, **COMMON)
    assert level.execute(context) == 1
    role = "arn:aws:iam::123456789012:role/step"
    add = EmrAddStepsOperator(
        task_id="add",
        job_flow_id=cluster,
        steps=[PI],
        execution_role_arn=role,
        wait_for_completion=True,
        waiter_delay=1,
        **COMMON,
    )
    [step] = add.execute(context)
    polling = {"poke_interval": 1, "timeout": 300, "mode": "poke"}
    EmrStepSensor(task_id="wait", job_flow_id=cluster, step_id=step, **polling, **COMMON).execute(context)
    EmrTerminateJobFlowOperator(task_id="terminate", job_flow_id=cluster, **COMMON).execute(context)
    EmrJobFlowSensor(task_id="check", job_flow_id=cluster, **polling, **COMMON).execute(context)
    assert emr.state(cluster) == "TERMINATED"
    added, first = emr.client.list_steps(ClusterId=cluster)["Steps"]
    assert (added["Id"], added["Status"]["State"], first["Status"]["State"]) == (step, "COMPLETED", "COMPLETED")
    assert emr.client.describe_step(ClusterId=cluster, StepId=step)["Step"]["ExecutionRoleArn"] == role
    assert "Pi is roughly 3.1" in (emr.folder(cluster, step) / "stdout").read_text(encoding="utf-8")


def test_the_step_sensor_fails_with_the_message_of_a_failed_step(emr: Any, context: Any) -> None:
    from airflow.providers.amazon.aws.sensors.emr import EmrStepSensor

    cluster = emr.create(LogUri=None)
    [step] = emr.add(cluster, emr.bash("echo broken >&2; exit 3"))
    emr.await_step(cluster, step)
    with pytest.raises(Exception, match=r"Unknown Error.*broken"):
        EmrStepSensor(task_id="wait", job_flow_id=cluster, step_id=step, **COMMON).poke(context)


def test_the_create_operator_fails_after_it_has_created_a_cluster_with_a_log_folder_that_is_not_on_s3(
    emr: Any, context: Any
) -> None:
    """``docs/local-emr.md`` warns of it: the operator parses LogUri for a link, and leaves its cluster behind."""
    from airflow.providers.amazon.aws.exceptions import S3HookUriParseFailure

    with pytest.raises(S3HookUriParseFailure):
        create_operator(emr.request(Name="left behind", LogUri=f"file://{emr.log_dir}")).execute(context)
    listed = emr.client.list_clusters(ClusterStates=["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"])["Clusters"]
    assert "left behind" in [cluster["Name"] for cluster in listed]
