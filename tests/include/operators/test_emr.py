"""The operators against scripted answers of EMR: every call that they make is listed, and no other is possible."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from botocore.exceptions import ClientError, ReadTimeoutError
from botocore.stub import ANY, Stubber

from include.aws.endpoints import EndpointRefusedError
from include.cluster.tags import LAKE_TAG, ROUND_TAG, RUN_TAG
from include.emr.client import LIVE_STEP_STATES, REUSABLE_STEP_STATES
from include.emr.identity import LIVE_CLUSTER_STATES
from include.operators import add_steps, create_cluster, shared, step_sensor, terminate_cluster
from include.operators.add_steps import AddSteps
from include.operators.create_cluster import CreateCluster
from include.operators.shared import CLUSTER_ID, SENDING
from include.operators.step_sensor import StepSensor
from include.operators.terminate_cluster import TerminateCluster
from include.settings.deployment import Settings

SLUG = "20261122T120000Z-0123abcd"
NAME = f"fruit-features {SLUG}"
RUN = {"slug": SLUG, "lake": "s3://lake", "run_after": "2026-11-22T12:00:00+00:00", "round": "round2"}
SINCE = {"CreatedAfter": datetime(2026, 11, 21, 12, tzinfo=UTC)}
LIVE = SINCE | {"ClusterStates": list(LIVE_CLUSTER_STATES)}
AWS = {"aws_conn_id": None, "region_name": "eu-west-3"}
OK = {"ResponseMetadata": {"HTTPStatusCode": 200}}
THROTTLED = {"service_error_code": "ThrottlingException", "http_status_code": 400}


class TaskInstance:
    """Keeps what a task pushes."""

    def __init__(self) -> None:
        self.xcom: dict[str, Any] = {}

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.xcom.get(key) if task_ids == "create" else None

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance(), "task_instance": TaskInstance()}


@pytest.fixture(autouse=True)
def local_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(profile="local", aws_conn_id=None, api_patience_seconds=0.001)
    for module in (add_steps, create_cluster, shared, step_sensor, terminate_cluster):
        monkeypatch.setattr(module, "read_airflow_settings", lambda: settings)


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


REQUEST = {"Name": NAME, "Instances": {"InstanceCount": 1}, "Tags": [{"Key": RUN_TAG, "Value": SLUG}]}
SIGNED = REQUEST | {"Tags": [*REQUEST["Tags"], {"Key": ROUND_TAG, "Value": "round2"}]}


def create() -> CreateCluster:
    return CreateCluster(task_id="create", run=RUN, job_flow_overrides=REQUEST, **AWS)


def add(*names: str) -> AddSteps:
    steps = [step_request(name) for name in names]
    return AddSteps(task_id="add", run=RUN, job_flow_overrides=REQUEST, job_flow_id="j-1", steps=steps, **AWS)


def step_request(name: str) -> dict[str, Any]:
    return {"Name": name, "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}


def sensor() -> StepSensor:
    made = StepSensor(task_id="wait", add_task_id="add_featurize", run=RUN, poke_interval=1, mode="reschedule", **AWS)
    made.job_flow_id, made.step_id = "j-1", "s-1"  # as the templates are rendered
    return made


def terminate(job_flow_id: str = "") -> TerminateCluster:
    made = TerminateCluster(task_id="terminate", run=RUN, creators=("create", "add"), **AWS)
    made.job_flow_id = job_flow_id
    return made


ALL = [create, add, sensor, terminate]


def clusters(*found: tuple[str, str], marker: str | None = None) -> dict[str, Any]:
    listed = [{"Id": cluster_id, "Name": name} for cluster_id, name in found]
    return {"Clusters": listed} | ({"Marker": marker} if marker else {})


def cluster(cluster_id: str = "j-1", state: str = "WAITING", made_in: str = "round2", **more: Any) -> dict[str, Any]:
    tags = {RUN_TAG: SLUG, LAKE_TAG: "s3://lake", ROUND_TAG: made_in}
    return {
        "Cluster": {
            "Id": cluster_id,
            "Status": {"State": state},
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
        | more
    }


def tell(emr: Stubber, *found: dict[str, Any], listing: dict[str, Any] = SINCE) -> None:
    """Let EMR list the run's clusters, and describe each."""
    ids = [item["Cluster"]["Id"] for item in found]
    emr.add_response("list_clusters", clusters(*((cluster_id, NAME) for cluster_id in ids)), listing)
    for item in found:
        emr.add_response("describe_cluster", item, {"ClusterId": item["Cluster"]["Id"]})


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


def test_cluster_is_created_when_there_is_none(script: Any, context: dict[str, Any]) -> None:
    operator = create()
    emr = script(operator)
    emr.add_response("list_clusters", clusters(("j-7", "another")), SINCE)
    emr.add_response("run_job_flow", {"JobFlowId": "j-1"}, SIGNED)
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("describe_cluster", cluster(LogUri="s3://bucket/logs/"), ANY_CLUSTER)
    assert operator.execute(context) == "j-1"
    assert context["ti"].xcom[CLUSTER_ID] == "j-1"
    assert context["ti"].xcom[SENDING] is False


def test_live_cluster_of_the_same_run_is_attached_to(script: Any, context: dict[str, Any]) -> None:
    operator = create()
    emr = script(operator)
    tell(emr, cluster())
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    assert operator.execute(context) == "j-1"
    assert SENDING not in context["ti"].xcom


def test_cluster_that_has_ended_in_this_round_fails_the_task_for_good(script: Any, context: dict[str, Any]) -> None:
    operator = create()
    tell(script(operator), cluster(state="TERMINATED_WITH_ERRORS"))
    with pytest.raises(AirflowFailException, match=r"j-1 is TERMINATED_WITH_ERRORS.*clear the first task that failed"):
        operator.execute(context)


def test_states_of_live_clusters_are_all_but_those_of_ending() -> None:
    known = botocore.session.get_session().get_service_model("emr").shape_for("ClusterState").enum
    assert {state for state in known if not state.startswith("TERMINAT")} == set(LIVE_CLUSTER_STATES)


def test_killed_create_ends_its_cluster(script: Any, context: dict[str, Any]) -> None:
    operator = create()
    emr = script(operator)
    tell(emr, cluster())
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    operator.execute(context)
    operator.on_kill()


STEPS = {"ClusterId": "j-1", "StepStates": list(REUSABLE_STEP_STATES)}


def start_adding(emr: Stubber) -> None:
    """What comes before a look at the steps: is the cluster live, and where are its logs."""
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)


def test_steps_are_added_and_their_cluster_is_told_to_the_sensor(script: Any, context: dict[str, Any]) -> None:
    operator = add("featurize")
    emr = script(operator)
    start_adding(emr)
    emr.add_response("list_steps", {"Steps": []}, STEPS)
    emr.add_response("add_job_flow_steps", OK | {"StepIds": ["s-1"]}, {"JobFlowId": "j-1", "Steps": operator.steps})
    assert operator.execute(context) == ["s-1"]
    assert context["ti"].xcom[CLUSTER_ID] == "j-1"


ANY_CLUSTER = {"ClusterId": ANY}


def test_step_of_an_earlier_try_is_attached_to(script: Any, context: dict[str, Any]) -> None:
    operator = add("featurize")
    emr = script(operator)
    start_adding(emr)
    emr.add_response("list_steps", {"Steps": [{"Id": "s-9", "Name": "featurize 2"}], "Marker": "more"}, STEPS)
    emr.add_response("list_steps", {"Steps": [{"Id": "s-1", "Name": "featurize"}]}, STEPS | {"Marker": "more"})
    assert operator.execute(context) == ["s-1"]


def test_only_the_steps_that_are_missing_are_added_and_the_order_is_kept(script: Any, context: dict[str, Any]) -> None:
    operator = add("a", "b", "c")
    emr = script(operator)
    start_adding(emr)
    emr.add_response("list_steps", {"Steps": [{"Id": "s-b", "Name": "b"}]}, STEPS)
    missing = [step_request("a"), step_request("c")]
    emr.add_response("add_job_flow_steps", OK | {"StepIds": ["s-a", "s-c"]}, {"JobFlowId": "j-1", "Steps": missing})
    assert operator.execute(context) == ["s-a", "s-b", "s-c"]


def test_cleared_task_makes_one_new_cluster_for_the_one_that_has_ended(script: Any, context: dict[str, Any]) -> None:
    operator = add("pca")
    emr = script(operator)
    ended = cluster(state="TERMINATED", made_in="round1")
    emr.add_response("describe_cluster", ended, {"ClusterId": "j-1"})
    tell(emr, ended)
    emr.add_response("run_job_flow", {"JobFlowId": "j-2"}, SIGNED)
    emr.add_response("describe_cluster", cluster("j-2"), {"ClusterId": "j-2"})
    emr.add_response("describe_cluster", cluster("j-2"), {"ClusterId": "j-2"})
    emr.add_response("list_steps", {"Steps": []}, STEPS | {"ClusterId": "j-2"})
    emr.add_response("add_job_flow_steps", {"StepIds": ["s-1"]}, {"JobFlowId": "j-2", "Steps": operator.steps})
    assert operator.execute(context) == ["s-1"]
    assert context["ti"].xcom[CLUSTER_ID] == "j-2"


def test_next_step_of_a_cleared_run_goes_to_the_new_cluster(script: Any, context: dict[str, Any]) -> None:
    """``create_cluster`` was not cleared: what it has told is the cluster that has ended."""
    operator = add("pca")
    emr = script(operator)
    ended = cluster(state="TERMINATED", made_in="round1")
    emr.add_response("describe_cluster", ended, {"ClusterId": "j-1"})
    tell(emr, cluster("j-2"), ended)
    emr.add_response("describe_cluster", cluster("j-2"), {"ClusterId": "j-2"})
    emr.add_response("list_steps", {"Steps": [{"Id": "s-1", "Name": "pca"}]}, STEPS | {"ClusterId": "j-2"})
    assert operator.execute(context) == ["s-1"]


def test_cluster_that_was_lost_on_the_way_is_not_replaced_in_silence(script: Any, context: dict[str, Any]) -> None:
    operator = add("featurize")
    emr = script(operator)
    lost = cluster(state="TERMINATED_WITH_ERRORS")
    emr.add_response("describe_cluster", lost, {"ClusterId": "j-1"})
    tell(emr, lost)
    with pytest.raises(AirflowFailException, match="j-1 is TERMINATED_WITH_ERRORS"):
        operator.execute(context)


def test_failed_and_cancelled_steps_are_added_again() -> None:
    known = botocore.session.get_session().get_service_model("emr").shape_for("StepState").enum
    assert set(known) - set(REUSABLE_STEP_STATES) == {"FAILED", "CANCELLED", "INTERRUPTED", "CANCEL_PENDING"}


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


@pytest.mark.parametrize("status", [400, 503])
def test_while_emr_throttles_or_fails_the_sensor_looks_again(script: Any, context: dict[str, Any], status: int) -> None:
    operator = sensor()
    script(operator).add_client_error("describe_step", "ThrottlingException", http_status_code=status)
    assert operator.poke(context) is False


def test_what_emr_refuses_fails_the_sensor(script: Any, context: dict[str, Any]) -> None:
    operator = sensor()
    script(operator).add_client_error("describe_step", "AccessDeniedException", http_status_code=400)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        operator.poke(context)


def test_sensor_that_was_cleared_by_itself_says_what_to_clear_instead(script: Any, context: dict[str, Any]) -> None:
    operator = sensor()
    emr = script(operator)
    for _ in range(2):
        emr.add_response("describe_step", step("FAILED"), {"ClusterId": "j-1", "StepId": "s-1"})
        emr.add_response("describe_cluster", cluster(state="TERMINATED", made_in="round1"), ANY_CLUSTER)
    with pytest.raises(AirflowFailException, match=r"cleared by itself.*clear add_featurize with all downstream tasks"):
        operator.poke(context)


def test_sensor_without_a_step_says_what_to_clear(script: Any, context: dict[str, Any]) -> None:
    operator = sensor()
    operator.step_id = ""
    script(operator)
    with pytest.raises(AirflowFailException, match="add_featurize has added no step"):
        operator.execute(context)


def test_sensor_takes_cluster_and_step_from_the_task_that_added_it() -> None:
    made = StepSensor(task_id="wait", add_task_id="add_featurize", run=RUN, **AWS)
    assert "add_featurize" in made.job_flow_id
    assert "add_featurize" in made.step_id


def test_sensor_never_defers_whatever_the_deployment_prefers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deferred, it gives up after 60 looks and takes no part of our explanation."""
    assert sensor().deferrable is False


LIVE_STEPS = {"ClusterId": "j-1", "StepStates": list(LIVE_STEP_STATES)}


def end(emr: Stubber, *running: str) -> None:
    """End j-1, which runs these steps, and see that it has gone."""
    emr.add_response("list_steps", {"Steps": [{"Id": step_id, "Name": step_id} for step_id in running]}, LIVE_STEPS)
    if running:
        cancelled = {"ClusterId": "j-1", "StepIds": list(running), "StepCancellationOption": "TERMINATE_PROCESS"}
        emr.add_response("cancel_steps", {}, cancelled)
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("list_clusters", clusters(), LIVE)


def test_every_live_cluster_of_the_run_is_ended_with_its_steps(script: Any, context: dict[str, Any]) -> None:
    operator = terminate()
    emr = script(operator)
    tell(emr, cluster(), cluster("j-2"), listing=LIVE)
    emr.add_response("list_steps", {"Steps": [{"Id": "s-1", "Name": "featurize"}]}, LIVE_STEPS)
    cancelled = {"ClusterId": "j-1", "StepIds": ["s-1"], "StepCancellationOption": "TERMINATE_PROCESS"}
    emr.add_response("cancel_steps", {}, cancelled)
    emr.add_client_error("list_steps", service_error_code="AccessDeniedException")
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1", "j-2"]})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("list_clusters", clusters(("j-7", "another")), LIVE)
    operator.execute(context)


def test_cluster_of_another_deployment_is_not_ended(script: Any, context: dict[str, Any]) -> None:
    theirs = cluster()
    theirs["Cluster"]["Tags"] = [{"Key": RUN_TAG, "Value": SLUG}, {"Key": LAKE_TAG, "Value": "s3://another"}]
    operator = terminate()
    tell(script(operator), theirs, listing=LIVE)
    operator.execute(context)


def test_cluster_is_ended_by_its_id_when_listing_fails(script: Any, context: dict[str, Any]) -> None:
    operator = terminate("  j-1 j-1 ")
    emr = script(operator)
    emr.add_client_error("list_clusters", service_error_code="AccessDeniedException")
    end(emr)
    operator.execute(context)


def test_listing_that_fails_with_no_id_known_fails_the_task(script: Any, context: dict[str, Any]) -> None:
    """A green teardown would hide a cluster that is still being paid for."""
    operator = terminate("  ")
    script(operator).add_client_error("list_clusters", service_error_code="AccessDeniedException")
    with pytest.raises(ClientError):
        operator.execute(context)


@pytest.mark.parametrize("job_flow_id", ["", "j-1"])
def test_nothing_is_ended_when_nothing_lives(script: Any, context: dict[str, Any], job_flow_id: str) -> None:
    operator = terminate(job_flow_id)
    script(operator).add_response("list_clusters", clusters(("j-7", "another")), LIVE)
    operator.execute(context)


def test_cluster_that_lives_on_fails_the_task(script: Any, context: dict[str, Any]) -> None:
    operator = terminate("j-1")
    emr = script(operator)
    tell(emr, cluster(), listing=LIVE)
    emr.add_response("list_steps", {"Steps": []}, LIVE_STEPS)
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    tell(emr, cluster(), listing=LIVE)
    with pytest.raises(AirflowException, match=r"j-1 .* still live after TerminateJobFlows; check whether termination"):
        operator.execute(context)


@pytest.mark.parametrize("log_uri", ["file:///lake/logs/", "s3://bucket/logs/", "s3:///", "https://x/y", "x", ""])
def test_link_to_the_logs_never_fails_a_task(script: Any, context: dict[str, Any], log_uri: str) -> None:
    operator = add("featurize")
    emr = script(operator)
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("describe_cluster", cluster(LogUri=log_uri), ANY_CLUSTER)
    emr.add_response("list_steps", {"Steps": [{"Id": "s-1", "Name": "featurize"}]}, STEPS)
    assert operator.execute(context) == ["s-1"]


def test_what_earlier_tasks_tell_may_be_templates() -> None:
    assert {"job_flow_id", "run"} <= set(terminate().template_fields)
    assert {"job_flow_id", "step_id", "run"} <= set(sensor().template_fields)
    assert {"job_flow_id", "steps", "run", "job_flow_overrides"} <= set(add().template_fields)
    assert {"job_flow_overrides", "run"} <= set(create().template_fields)


def test_cluster_of_a_request_that_was_cut_off_is_waited_for(
    script: Any, context: dict[str, Any], clock: list[float]
) -> None:
    context["ti"].xcom[SENDING] = True
    operator = terminate()
    emr = script(operator)
    for _ in range(3):
        emr.add_response("list_clusters", clusters(), LIVE)
    tell(emr, cluster(), listing=LIVE)
    end(emr)
    operator.execute(context)
    assert clock == [terminate_cluster.POLL_SECONDS] * 3


def test_cluster_that_never_comes_is_given_up(script: Any, context: dict[str, Any], clock: list[float]) -> None:
    context["ti"].xcom[SENDING] = True
    operator = terminate()
    emr = script(operator)
    for _ in range(1 + int(terminate_cluster.LATE_CLUSTER_SECONDS / terminate_cluster.POLL_SECONDS)):
        emr.add_response("list_clusters", clusters(), LIVE)
    operator.execute(context)
    assert sum(clock) == terminate_cluster.LATE_CLUSTER_SECONDS


@pytest.mark.parametrize("sending", [None, False])
def test_no_cluster_is_waited_for_when_no_request_is_under_way(
    script: Any, context: dict[str, Any], clock: list[float], sending: bool | None
) -> None:
    context["ti"].xcom[SENDING] = sending
    operator = terminate()
    script(operator).add_response("list_clusters", clusters(), LIVE)
    operator.execute(context)
    assert clock == []


def test_no_cluster_is_waited_for_when_emr_refused_to_make_it(
    script: Any, context: dict[str, Any], clock: list[float]
) -> None:
    refused = create()
    emr = script(refused)
    emr.add_response("list_clusters", clusters(), SINCE)
    emr.add_client_error("run_job_flow", "ValidationException", http_status_code=400)
    with pytest.raises(ClientError, match="ValidationException"):
        refused.execute(context)
    test_no_cluster_is_waited_for_when_no_request_is_under_way(script, context, clock, context["ti"].xcom[SENDING])


def test_cluster_is_waited_for_when_the_answer_was_lost(
    script: Any, context: dict[str, Any], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(**_: Any) -> None:
        raise ReadTimeoutError(endpoint_url="http://emr")

    unanswered = create()
    emr = script(unanswered)
    emr.add_response("list_clusters", clusters(), SINCE)
    for _ in range(2):  # the retry policy has one pause
        emr.add_client_error("list_clusters", "InternalServerError", http_status_code=500)
    monkeypatch.setattr(unanswered.hook.conn, "run_job_flow", lose)
    with pytest.raises(ClientError, match="InternalServerError"):
        unanswered.execute(context)
    assert context["ti"].xcom[SENDING] is True
    clock.clear()
    test_cluster_of_a_request_that_was_cut_off_is_waited_for(script, context, clock)


def test_link_of_a_sensor_leads_to_the_logs_of_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example/team/")
    [link] = [link for link in sensor().operator_extra_links if link.name == "Step logs"]
    assert link.get_link(sensor(), ti_key=None) == "/team/fruit-reports/logs/j-1/s-1"
