"""The operators against scripted answers of EMR: every call that they make is listed, and no other is possible."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.stub import ANY, Stubber

from include import operators
from include.endpoints import EndpointRefusedError
from include.operators import (
    ATTACHABLE_STEP_STATES,
    LIVE_CLUSTER_STATES,
    AddSteps,
    CreateCluster,
    StepSensor,
    TerminateCluster,
)
from include.settings import Settings

NAME = "fruit-features 20261122T120000Z-0123abcd"
LIVE = {"ClusterStates": LIVE_CLUSTER_STATES}
AWS = {"aws_conn_id": None, "region_name": "eu-west-3"}
OK = {"ResponseMetadata": {"HTTPStatusCode": 200}}
THROTTLED = {"service_error_code": "ThrottlingException", "http_status_code": 400}


class TaskInstance:
    """Keeps what a task pushes, and knows in which state the create ended."""

    dag_id, run_id = "dag", "run"

    def __init__(self) -> None:
        self.xcom: dict[str, Any] = {}
        self.create_state = "failed"

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        assert task_ids == "create"
        return self.xcom.get(key)

    def get_task_states(self, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        assert (dag_id, task_ids, run_ids) == ("dag", ["create"], ["run"])
        return {"run": {"create": self.create_state}}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance(), "task_instance": TaskInstance()}


@pytest.fixture(autouse=True)
def local_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(profile="local", aws_conn_id=None)
    monkeypatch.setattr(operators, "read_airflow_settings", lambda: settings)


@pytest.fixture
def script() -> Iterator[Any]:
    """Return a function that puts a script of answers in the place of an operator's EMR; all of it must be used."""
    with ExitStack() as stack:
        stubs: list[Stubber] = []

        def start(operator: Any) -> Stubber:
            stub = stack.enter_context(Stubber(operator.hook.conn))
            stubs.append(stub)
            return stub

        yield start
        for stub in stubs:
            stub.assert_no_pending_responses()


def create() -> CreateCluster:
    return CreateCluster(task_id="create", job_flow_overrides={"Name": NAME, "Instances": {"InstanceCount": 1}}, **AWS)


def add(*names: str) -> AddSteps:
    return AddSteps(task_id="add", job_flow_id="j-1", steps=[step_request(name) for name in names], **AWS)


def step_request(name: str) -> dict[str, Any]:
    return {"Name": name, "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}


def sensor() -> StepSensor:
    return StepSensor(task_id="wait", job_flow_id="j-1", step_id="s-1", poke_interval=1, mode="reschedule", **AWS)


def terminate(job_flow_id: str = "") -> TerminateCluster:
    return TerminateCluster(task_id="terminate", cluster_name=NAME, job_flow_id=job_flow_id, **AWS)


ALL = [create, add, sensor, terminate]


def clusters(*found: tuple[str, str], marker: str | None = None) -> dict[str, Any]:
    listed = [{"Id": cluster_id, "Name": name} for cluster_id, name in found]
    return {"Clusters": listed} | ({"Marker": marker} if marker else {})


def cluster(**more: Any) -> dict[str, Any]:
    return {"Cluster": {"Id": "j-1", "Status": {"State": "WAITING"}} | more}


def step(state: str, **status: Any) -> dict[str, Any]:
    return {
        "Step": {"Id": "s-1", "Name": "featurize", "Status": {"State": state} | status},
        "ResponseMetadata": {"HTTPStatusCode": 200},
    }


@pytest.mark.parametrize("make", ALL)
def test_no_call_is_made_when_the_client_would_call_aws(
    make: Any, script: Any, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    operator = make()
    script(operator)  # an empty script: any call fails with another error
    with pytest.raises(EndpointRefusedError, match=r"emr resolves to https://.*amazonaws\.com"):
        operator.execute(context)


@pytest.mark.parametrize("make", [create, add])
def test_call_that_makes_something_is_sent_once_only(make: Any) -> None:
    """botocore repeats by itself when an answer is late, and neither call has an idempotency token."""
    assert make().hook.conn.meta.config.retries["total_max_attempts"] == 1


def test_stock_connection_is_not_merged_into_the_request() -> None:
    assert create().emr_conn_id is None
    assert create().wait_for_completion is False, "the id has to be known before anything can fail"


def test_cluster_is_created_when_none_lives(script: Any, context: dict[str, Any]) -> None:
    operator = create()
    emr = script(operator)
    emr.add_response("list_clusters", clusters(("j-7", "another")), LIVE)
    emr.add_response("run_job_flow", {"JobFlowId": "j-1"}, operator.job_flow_overrides)
    emr.add_response("describe_cluster", cluster(LogUri="s3://bucket/logs/"), {"ClusterId": "j-1"})
    assert operator.execute(context) == "j-1"


def test_live_cluster_of_the_same_run_is_attached_to_wherever_it_is_listed(
    script: Any, context: dict[str, Any]
) -> None:
    operator = create()
    emr = script(operator)
    emr.add_response("list_clusters", clusters(("j-7", NAME + "0"), marker="more"), LIVE)
    emr.add_response("list_clusters", clusters(("j-1", NAME)), LIVE | {"Marker": "more"})
    emr.add_response("describe_cluster", cluster(), {"ClusterId": "j-1"})
    assert operator.execute(context) == "j-1"


def test_terminated_clusters_are_not_asked_for() -> None:
    assert [state for state in LIVE_CLUSTER_STATES if state.startswith("TERMINAT")] == []
    known = botocore.session.get_session().get_service_model("emr").shape_for("ClusterState").enum
    assert {state for state in known if not state.startswith("TERMINAT")} == set(LIVE_CLUSTER_STATES)


def test_throttled_listing_creates_nothing(script: Any, context: dict[str, Any]) -> None:
    operator = create()
    script(operator).add_client_error("list_clusters", **THROTTLED)
    with pytest.raises(ClientError, match="ThrottlingException"):
        operator.execute(context)


def test_killed_create_ends_its_cluster(script: Any, context: dict[str, Any]) -> None:
    operator = create()
    emr = script(operator)
    emr.add_response("list_clusters", clusters(("j-1", NAME)), LIVE)
    emr.add_response("describe_cluster", cluster(), {"ClusterId": "j-1"})
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    operator.execute(context)
    operator.on_kill()


STEPS = {"ClusterId": "j-1", "StepStates": ATTACHABLE_STEP_STATES}


def test_steps_are_added_and_their_cluster_is_told_to_the_sensor(script: Any, context: dict[str, Any]) -> None:
    operator = add("featurize")
    emr = script(operator)
    emr.add_response("list_steps", {"Steps": []}, STEPS)
    emr.add_response("add_job_flow_steps", OK | {"StepIds": ["s-1"]}, {"JobFlowId": "j-1", "Steps": operator.steps})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    assert operator.execute(context) == ["s-1"]
    assert context["ti"].xcom["job_flow_id"] == "j-1"


ANY_CLUSTER = {"ClusterId": ANY}


def test_step_of_an_earlier_try_is_attached_to(script: Any, context: dict[str, Any]) -> None:
    operator = add("featurize")
    emr = script(operator)
    emr.add_response("list_steps", {"Steps": [{"Id": "s-9", "Name": "featurize 2"}], "Marker": "more"}, STEPS)
    emr.add_response("list_steps", {"Steps": [{"Id": "s-1", "Name": "featurize"}]}, STEPS | {"Marker": "more"})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    assert operator.execute(context) == ["s-1"]


def test_only_the_steps_that_are_missing_are_added_and_the_order_is_kept(script: Any, context: dict[str, Any]) -> None:
    operator = add("a", "b", "c")
    emr = script(operator)
    emr.add_response("list_steps", {"Steps": [{"Id": "s-b", "Name": "b"}]}, STEPS)
    missing = [step_request("a"), step_request("c")]
    emr.add_response("add_job_flow_steps", OK | {"StepIds": ["s-a", "s-c"]}, {"JobFlowId": "j-1", "Steps": missing})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    assert operator.execute(context) == ["s-a", "s-b", "s-c"]


def test_failed_and_cancelled_steps_are_added_again() -> None:
    known = botocore.session.get_session().get_service_model("emr").shape_for("StepState").enum
    assert set(known) - set(ATTACHABLE_STEP_STATES) == {"FAILED", "CANCELLED", "INTERRUPTED", "CANCEL_PENDING"}


@pytest.mark.parametrize(("state", "done"), [("PENDING", False), ("RUNNING", False), ("COMPLETED", True)])
def test_sensor_waits_until_the_step_is_complete(script: Any, context: dict[str, Any], state: str, done: bool) -> None:
    operator = sensor()
    emr = script(operator)
    emr.add_response("describe_step", step(state), {"ClusterId": "j-1", "StepId": "s-1"})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    assert operator.poke(context) is done


def fail_step(emr: Stubber, log_uri: str | None) -> None:
    failed = step("FAILED", FailureDetails={"Reason": "Unknown Error", "Message": "no space left"})
    emr.add_response("describe_step", failed, {"ClusterId": "j-1", "StepId": "s-1"})
    found = cluster(**({"LogUri": log_uri} if log_uri else {}))
    emr.add_response("describe_cluster", found, ANY_CLUSTER)
    emr.add_response("describe_step", failed, {"ClusterId": "j-1", "StepId": "s-1"})
    emr.add_response("describe_cluster", found, ANY_CLUSTER)


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "INTERRUPTED"])
def test_step_that_ended_badly_fails_the_task_for_good(script: Any, context: dict[str, Any], state: str) -> None:
    operator = sensor()
    emr = script(operator)
    for _ in range(2):
        emr.add_response("describe_step", step(state), {"ClusterId": "j-1", "StepId": "s-1"})
        emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    with pytest.raises(AirflowFailException, match=f"'featurize' \\(s-1\\) ended {state}"):
        operator.poke(context)


def test_failure_comes_with_reason_and_the_end_of_the_log(
    script: Any, context: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "l é#%" / "j-1" / "steps" / "s-1"
    folder.mkdir(parents=True)
    for name in ("stderr", "stdout"):
        (folder / f"{name}.gz").write_bytes(gzip.compress(f"the cause is in {name}\n".encode()))
    operator = sensor()
    fail_step(script(operator), f"file://{tmp_path}/l é#%/")
    with pytest.raises(AirflowFailException, match=r"Unknown Error.*no space left.*cluster j-1 is WAITING"):
        operator.poke(context)
    shown = capsys.readouterr().out
    assert "the cause is in stderr" in shown
    assert "the cause is in stdout" in shown


@pytest.mark.parametrize("damage", ["missing", "truncated", "plain text", "a folder"])
def test_log_that_cannot_be_read_does_not_hide_the_failure(
    script: Any, context: dict[str, Any], tmp_path: Path, damage: str
) -> None:
    log = tmp_path / "j-1" / "steps" / "s-1" / "stderr.gz"
    log.parent.mkdir(parents=True)
    if damage == "truncated":
        log.write_bytes(gzip.compress(b"x" * 10_000)[:-12])
    elif damage == "plain text":
        log.write_bytes(b"no gzip")
    elif damage == "a folder":
        log.mkdir()
    operator = sensor()
    fail_step(script(operator), f"file://{tmp_path}")
    with pytest.raises(AirflowFailException, match="no space left"):
        operator.poke(context)


def test_cluster_that_cannot_be_described_does_not_hide_the_failure(script: Any, context: dict[str, Any]) -> None:
    operator = sensor()
    emr = script(operator)
    failed = step("FAILED", FailureDetails={"Message": "no space left"})
    for _ in range(2):
        emr.add_response("describe_step", failed, {"ClusterId": "j-1", "StepId": "s-1"})
        emr.add_client_error("describe_cluster", **THROTTLED)
    with pytest.raises(AirflowFailException, match="no space left"):
        operator.poke(context)


def test_error_of_the_api_is_not_the_steps_and_may_be_retried(script: Any, context: dict[str, Any]) -> None:
    operator = sensor()
    script(operator).add_client_error("describe_step", **THROTTLED)
    with pytest.raises(ClientError) as caught:
        operator.poke(context)
    assert not isinstance(caught.value, AirflowFailException)


def test_sensor_never_defers_whatever_the_deployment_prefers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deferred, it gives up after 60 looks and takes no part of our explanation."""
    assert sensor().deferrable is False


def test_clusters_are_ended_by_name_when_no_id_is_known(script: Any, context: dict[str, Any]) -> None:
    operator = terminate()
    emr = script(operator)
    emr.add_response("list_clusters", clusters(("j-1", NAME), ("j-7", "another"), ("j-2", NAME)), LIVE)
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1", "j-2"]})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("list_clusters", clusters(("j-7", "another")), LIVE)
    operator.execute(context)


def test_cluster_is_ended_by_its_id_when_listing_fails(script: Any, context: dict[str, Any]) -> None:
    operator = terminate("j-1")
    emr = script(operator)
    emr.add_client_error("list_clusters", service_error_code="AccessDeniedException")
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("list_clusters", clusters(), LIVE)
    operator.execute(context)


def test_listing_that_fails_with_no_id_known_fails_the_task(script: Any, context: dict[str, Any]) -> None:
    """A green teardown would hide a cluster that is still being paid for."""
    operator = terminate()
    script(operator).add_client_error("list_clusters", **THROTTLED)
    with pytest.raises(ClientError):
        operator.execute(context)


def test_cluster_is_ended_before_it_is_described(script: Any, context: dict[str, Any]) -> None:
    operator = terminate("j-1")
    emr = script(operator)
    emr.add_response("list_clusters", clusters(("j-1", NAME)), LIVE)
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    emr.add_client_error("describe_cluster", **THROTTLED)
    emr.add_response("list_clusters", clusters(), LIVE)
    operator.execute(context)


@pytest.mark.parametrize("job_flow_id", ["", "j-1"])
def test_nothing_is_ended_when_nothing_lives(script: Any, context: dict[str, Any], job_flow_id: str) -> None:
    operator = terminate(job_flow_id)
    script(operator).add_response("list_clusters", clusters(("j-7", "another")), LIVE)
    operator.execute(context)


def test_cluster_that_lives_on_fails_the_task(script: Any, context: dict[str, Any]) -> None:
    operator = terminate("j-1")
    emr = script(operator)
    emr.add_response("list_clusters", clusters(("j-1", NAME)), LIVE)
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("list_clusters", clusters(("j-1", NAME)), LIVE)
    with pytest.raises(AirflowException, match=r"j-1 .* still live after TerminateJobFlows; look whether termination"):
        operator.execute(context)


@pytest.mark.parametrize("log_uri", ["file:///lake/logs/", "s3://bucket/logs/", "s3:///", "https://x/y", "x", ""])
def test_link_to_the_logs_never_fails_a_task(script: Any, context: dict[str, Any], log_uri: str) -> None:
    operator = add("featurize")
    emr = script(operator)
    emr.add_response("list_steps", {"Steps": [{"Id": "s-1", "Name": "featurize"}]}, STEPS)
    emr.add_response("describe_cluster", cluster(LogUri=log_uri), ANY_CLUSTER)
    assert operator.execute(context) == ["s-1"]


def test_names_and_ids_may_be_templates() -> None:
    assert {"job_flow_id", "cluster_name"} <= set(terminate().template_fields)
    assert {"job_flow_id", "step_id"} <= set(sensor().template_fields)
    assert {"job_flow_id", "steps"} <= set(add().template_fields)
    assert "job_flow_overrides" in create().template_fields


def late(job_flow_id: str = "") -> TerminateCluster:
    return TerminateCluster(
        task_id="terminate", cluster_name=NAME, job_flow_id=job_flow_id, create_task_id="create", **AWS
    )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept; time passes in no other way."""
    slept: list[float] = []
    monkeypatch.setattr(operators.time, "sleep", slept.append)
    monkeypatch.setattr(operators.time, "monotonic", lambda: sum(slept))
    return slept


def test_cluster_of_a_create_that_was_cut_off_is_waited_for(
    script: Any, context: dict[str, Any], clock: list[float]
) -> None:
    operator = late()
    emr = script(operator)
    for _ in range(3):
        emr.add_response("list_clusters", clusters(), LIVE)
    emr.add_response("list_clusters", clusters(("j-1", NAME)), LIVE)
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("list_clusters", clusters(), LIVE)
    operator.execute(context)
    assert clock == [operators.LATE_CLUSTER_LOOK_SECONDS] * 3


def test_cluster_that_never_comes_is_given_up(script: Any, context: dict[str, Any], clock: list[float]) -> None:
    operator = late()
    emr = script(operator)
    for _ in range(1 + int(operators.LATE_CLUSTER_SECONDS / operators.LATE_CLUSTER_LOOK_SECONDS)):
        emr.add_response("list_clusters", clusters(), LIVE)
    operator.execute(context)
    assert sum(clock) == operators.LATE_CLUSTER_SECONDS


@pytest.mark.parametrize("state", ["success", "skipped", "upstream_failed", None])
def test_no_cluster_is_waited_for_when_create_did_not_run(
    script: Any, context: dict[str, Any], clock: list[float], state: str | None
) -> None:
    context["ti"].create_state = state
    operator = late()
    script(operator).add_response("list_clusters", clusters(), LIVE)
    operator.execute(context)
    assert clock == []


def test_no_cluster_is_waited_for_when_create_knew_its_end(
    script: Any, context: dict[str, Any], clock: list[float]
) -> None:
    """Refused by EMR: the request was answered, and no other is under way."""
    refused = create()
    emr = script(refused)
    emr.add_response("list_clusters", clusters(), LIVE)
    emr.add_client_error("run_job_flow", "ValidationException", http_status_code=400)
    with pytest.raises(ClientError, match="ValidationException"):
        refused.execute(context)
    operator = late()
    script(operator).add_response("list_clusters", clusters(), LIVE)
    operator.execute(context)
    assert clock == []


def test_cluster_is_waited_for_when_the_answer_was_lost(
    script: Any, context: dict[str, Any], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: Any) -> None:
        raise ReadTimeoutError(endpoint_url="http://emr")

    unanswered = create()
    script(unanswered).add_response("list_clusters", clusters(), LIVE)
    monkeypatch.setattr(unanswered.hook, "create_job_flow", lose)
    with pytest.raises(ReadTimeoutError):
        unanswered.execute(context)
    test_cluster_of_a_create_that_was_cut_off_is_waited_for(script, context, clock)


def test_link_of_a_sensor_leads_to_the_logs_of_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example/team/")
    [link] = [link for link in sensor().operator_extra_links if link.name == "Step logs"]
    assert link.get_link(sensor(), ti_key=None) == "/team/fruit-reports/logs/j-1/s-1"
