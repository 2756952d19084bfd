"""What only the operators decide: failures, logs and kills, against scripted answers of EMR.

An unscripted call fails its test. ``tests/include/emr/test_client.py`` tests how clusters and steps are found and
created, and ``tests/end_to_end`` the operators in a run; both use the local EMR endpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowRescheduleException
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from structlog.testing import capture_logs

from include.aws.endpoints import EndpointRefusedError
from include.aws.quiet import quiet_clients
from include.cluster.tags import LAKE_TAG, ROUND_TAG, RUN_TAG
from include.emr.client import APPEARANCE_SECONDS, LIVE_STEP_STATES, POLL_SECONDS, REUSABLE_STEP_STATES
from include.emr.identity import LIVE_CLUSTER_STATES
from include.operators import add_steps, create_cluster, links, shared, step_sensor, terminate_cluster
from include.operators.add_steps import AddSteps
from include.operators.create_cluster import CreateCluster
from include.operators.shared import SENDING
from include.operators.step_sensor import StepSensor
from include.operators.terminate_cluster import TerminateCluster
from include.residency.cluster import PlaceUnknownError
from include.settings.deployment import Settings
from tests.include.run_records import found_record

pytestmark = pytest.mark.slow  # imports Airflow's EMR provider; each operator opens a boto3 client

SLUG = "20261122T120000Z-0123abcd"
NAME = f"fruit-features {SLUG}"
ROUND_BEGAN = datetime(2026, 11, 22, 12, tzinfo=UTC)
RUN = {
    "slug": SLUG,
    "lake": "s3://lake",
    "run_after": ROUND_BEGAN.isoformat(),
    "round": "round2",
    "opened_at": ROUND_BEGAN.isoformat(),
}
SINCE = {"CreatedAfter": datetime(2026, 11, 21, 12, tzinfo=UTC)}
LIVE = SINCE | {"ClusterStates": list(LIVE_CLUSTER_STATES)}
AWS = {"aws_conn_id": None, "region_name": "eu-west-3"}
OK = {"ResponseMetadata": {"HTTPStatusCode": 200}}
REQUEST = {"Name": NAME, "Instances": {"InstanceCount": 1}, "Tags": [{"Key": RUN_TAG, "Value": SLUG}]}
STEP = {"ClusterId": "j-1", "StepId": "s-1"}
ALL_STEPS = {"ClusterId": "j-1"}
LIVE_STEPS = {"ClusterId": "j-1", "StepStates": list(LIVE_STEP_STATES)}
ANY_CLUSTER = {"ClusterId": ANY}
ANY_REQUEST = {"Name": NAME, "Instances": ANY, "Tags": ANY}
SEARCHES = 1 + int(APPEARANCE_SECONDS / POLL_SECONDS)
"""Number of searches for a cluster that may appear late."""


class TaskInstance:
    """The XComs that a task pushes, and the number of its attempt."""

    def __init__(self) -> None:
        self.try_number = 1
        self.xcom: dict[str, Any] = {}

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.xcom.get(key) if task_ids == "create" else None

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcom[key] = value

    def get_first_reschedule_date(self, _: Any) -> None:
        return None


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance(), "task_instance": TaskInstance()}


@pytest.fixture(autouse=True)
def local_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(profile="local", aws_conn_id=None, api_patience_seconds=0.001)
    for module in (add_steps, create_cluster, shared, step_sensor, terminate_cluster):
        monkeypatch.setattr(module, "read_airflow_settings", lambda: settings)


@pytest.fixture
def interrupted(script: Any, context: dict[str, Any]) -> tuple[TerminateCluster, Stubber]:
    """The teardown after an interrupted request for a cluster, and the script of its EMR."""
    context["ti"].xcom[SENDING] = True
    operator = terminate()
    return operator, script(operator)


@pytest.fixture
def script() -> Iterator[Any]:
    """Return a function that replaces an operator's EMR by scripted answers; the test must use all of them."""
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
    return CreateCluster(task_id="create", run=RUN, job_flow_overrides=REQUEST, **AWS)


@pytest.fixture(autouse=True)
def unpublished(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of these tests have not published; their lake does not exist."""
    monkeypatch.setattr(add_steps, "is_published", lambda *_: False)


def add(*names: str) -> AddSteps:
    steps = [step_request(name) for name in names]
    return AddSteps(
        task_id="add", run=RUN, found=found_record(), job_flow_overrides=REQUEST, job_flow_id="j-1", steps=steps, **AWS
    )


def step_request(name: str) -> dict[str, Any]:
    return {"Name": name, "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}


def known_step(step_id: str, name: str) -> dict[str, Any]:
    """Return a running step as ListSteps does."""
    status = {"State": "RUNNING", "Timeline": {"CreationDateTime": ROUND_BEGAN}}
    return {"Id": step_id, "Name": name, "Config": step_request(name)["HadoopJarStep"], "Status": status}


def sensor() -> StepSensor:
    sensor = StepSensor(task_id="wait", add_task_id="add_featurize", run=RUN, poke_interval=1, mode="reschedule", **AWS)
    sensor.job_flow_id, sensor.step_id = "j-1", "s-1"  # the values of the rendered templates
    return sensor


def terminate(job_flow_id: str = "") -> TerminateCluster:
    terminate = TerminateCluster(task_id="terminate", run=RUN, creators=("create", "add"), **AWS)
    terminate.job_flow_id = job_flow_id
    return terminate


def cluster(cluster_id: str = "j-1", state: str = "WAITING", round: str = "round2", **more: Any) -> dict[str, Any]:
    """Return EMR's description of a cluster of this run."""
    tags = {RUN_TAG: SLUG, LAKE_TAG: "s3://lake", ROUND_TAG: round}
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    status = {"State": state, "Timeline": {"CreationDateTime": ROUND_BEGAN}}
    return {"Cluster": {"Id": cluster_id, "Status": status, "Tags": listed} | more}


def step(state: str, ended: datetime = ROUND_BEGAN + timedelta(minutes=5)) -> dict[str, Any]:
    """Return EMR's description of a step, with the reason of its failure."""
    status = {"State": state, "FailureDetails": {"Message": "no space left"}, "Timeline": {"EndDateTime": ended}}
    return OK | {"Step": {"Id": "s-1", "Name": "featurize", "Status": status}}


def script_search(emr: Stubber, *found: dict[str, Any], listing: dict[str, Any] = LIVE) -> None:
    """Script a search for the run's clusters: EMR lists them with one of another run, and describes each."""
    listed = [{"Id": item["Cluster"]["Id"], "Name": NAME} for item in found]
    emr.add_response("list_clusters", {"Clusters": [*listed, {"Id": "j-7", "Name": "another"}]}, listing)
    for item in found:
        emr.add_response("describe_cluster", item, {"ClusterId": item["Cluster"]["Id"]})


def script_termination(emr: Stubber, *left: dict[str, Any]) -> None:
    """Script the termination of j-1, which runs no step, and the search for the clusters that are left."""
    emr.add_response("list_steps", {"Steps": []}, LIVE_STEPS)
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    script_search(emr, *left)


@pytest.mark.parametrize("make", [create, add, sensor, terminate])
def test_no_call_is_made_when_the_client_would_call_aws(
    make: Any, script: Any, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    operator = make()
    script(operator)
    with pytest.raises(EndpointRefusedError, match=r"emr resolves to https://.*amazonaws\.com"):
        operator.execute(context)


def test_requests_that_create_something_are_sent_once() -> None:
    """botocore repeats a request when an answer is late, and neither request has an idempotency token."""
    for operator in (create(), add()):
        assert operator.hook.conn.meta.config.retries["total_max_attempts"] == 1


def test_the_stock_connection_is_not_merged_into_the_request() -> None:
    assert create().emr_conn_id is None
    assert create().wait_for_completion is False, "the id must be known before anything can fail"


def test_live_states_are_all_states_of_a_cluster_that_is_not_terminating() -> None:
    known = botocore.session.get_session().get_service_model("emr").shape_for("ClusterState").enum
    assert {state for state in known if not state.startswith("TERMINAT")} == set(LIVE_CLUSTER_STATES)


def test_failed_and_cancelled_steps_are_not_reused() -> None:
    known = botocore.session.get_session().get_service_model("emr").shape_for("StepState").enum
    assert set(known) - set(REUSABLE_STEP_STATES) == {"FAILED", "CANCELLED", "INTERRUPTED", "CANCEL_PENDING"}


@pytest.mark.parametrize("make", [create, add])
def test_a_cluster_that_ended_in_this_round_fails_the_task_without_retries(
    make: Any, script: Any, context: dict[str, Any]
) -> None:
    operator, ended = make(), cluster(state="TERMINATED_WITH_ERRORS")
    emr = script(operator)
    if make is add:
        emr.add_response("describe_cluster", ended, {"ClusterId": "j-1"})
    script_search(emr, ended, listing=SINCE)
    with pytest.raises(AirflowFailException, match=r"j-1 is TERMINATED_WITH_ERRORS.*clear the first task that failed"):
        operator.execute(context)


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_retry_searches_for_a_minute_before_it_creates_a_cluster(
    script: Any, context: dict[str, Any], clock: list[float], attempt: int
) -> None:
    """An earlier attempt may have died after RunJobFlow, and EMR may list its cluster late."""
    context["ti"].try_number = attempt
    operator = create()
    emr = script(operator)
    for _ in range(SEARCHES if attempt > 1 else 1):
        script_search(emr, listing=SINCE)
    emr.add_response("run_job_flow", {"JobFlowId": "j-1"}, ANY_REQUEST)
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    assert operator.execute(context) == "j-1"
    assert sum(clock) == (APPEARANCE_SECONDS if attempt > 1 else 0)


def test_a_killed_create_task_terminates_its_cluster(script: Any, context: dict[str, Any]) -> None:
    operator = create()
    emr = script(operator)
    script_search(emr, cluster(), listing=SINCE)
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    operator.execute(context)
    operator.on_kill()


def test_a_cluster_whose_place_is_unknown_frees_the_worker_until_the_next_poll(
    script: Any, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspect(*arguments: Any) -> None:
        raise PlaceUnknownError(["ClusterArn"])

    monkeypatch.setattr(add_steps, "inspect_cluster", inspect)
    operator, before = add("a"), datetime.now(UTC)
    emr = script(operator)
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    with pytest.raises(AirflowRescheduleException) as later:
        operator.execute(context)
    assert later.value.reschedule_date >= before + timedelta(seconds=Settings().poke_interval_seconds)


def test_the_live_cluster_of_an_earlier_round_gets_the_tag_of_this_round_before_its_steps(
    script: Any, context: dict[str, Any]
) -> None:
    """Only the add task was cleared, and the cluster is live: create_cluster does not run again."""
    operator = add("a")
    emr = script(operator)
    emr.add_response("describe_cluster", cluster(round="round1"), ANY_CLUSTER)
    emr.add_response("add_tags", {}, {"ResourceId": "j-1", "Tags": [{"Key": ROUND_TAG, "Value": "round2"}]})
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("list_steps", {"Steps": [known_step("s-a", "a")]}, ALL_STEPS)
    assert operator.execute(context) == ["s-a"]


def test_only_missing_steps_are_added_and_the_order_is_kept(script: Any, context: dict[str, Any]) -> None:
    operator = add("a", "b", "c")
    emr = script(operator)
    emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
    emr.add_response("list_steps", {"Steps": [known_step("s-b", "b")]}, ALL_STEPS)
    missing = [step_request("a"), step_request("c")]
    emr.add_response("add_job_flow_steps", OK | {"StepIds": ["s-a", "s-c"]}, {"JobFlowId": "j-1", "Steps": missing})
    assert operator.execute(context) == ["s-a", "s-b", "s-c"]


def test_no_step_is_added_to_a_run_that_has_published(
    script: Any, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(add_steps, "is_published", lambda lake, run, _: (lake.root, run) == ("s3://lake", SLUG))
    operator = add("featurize")
    script(operator)
    with pytest.raises(
        AirflowFailException, match=f"the run {SLUG} has published, .* clear open_run with its downstream"
    ):
        operator.execute(context)


def test_a_step_that_did_not_complete_fails_the_sensor_without_retries(script: Any, context: dict[str, Any]) -> None:
    operator = sensor()
    emr = script(operator)
    for state in ("FAILED", "CANCELLED", "INTERRUPTED"):
        for _ in range(2):
            emr.add_response("describe_step", step(state), STEP)
        emr.add_response("describe_cluster", cluster(), ANY_CLUSTER)
        with pytest.raises(AirflowFailException, match=f"'featurize' \\(s-1\\) ended {state}"):
            operator.poke(context)


@pytest.mark.parametrize(("seconds", "alone"), [(-1, True), (1, False)], ids=["before the round", "in the round"])
def test_a_sensor_cleared_alone_says_so_and_does_not_wait_for_logs(
    script: Any, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: int, alone: bool
) -> None:
    """The step had failed before this round began; a step that fails in this round is a failure like any other."""
    pauses: list[float] = []
    simulated = partial(step_sensor.examine_step, sleep=pauses.append, clock=lambda: sum(pauses))
    monkeypatch.setattr(step_sensor, "examine_step", simulated)
    failed = step("FAILED", ROUND_BEGAN + timedelta(seconds=seconds))
    failed["Step"]["Status"]["Timeline"]["StartDateTime"] = ROUND_BEGAN - timedelta(minutes=1)
    operator = sensor()
    emr = script(operator)
    for _ in range(2):
        emr.add_response("describe_step", failed, STEP)
    emr.add_response("describe_cluster", cluster(LogUri=f"file://{tmp_path}/no-logs-yet/"), ANY_CLUSTER)
    with pytest.raises(AirflowFailException) as failure:
        operator.poke(context)
    assert ("cleared by itself" in str(failure.value)) is alone
    assert sum(pauses) == (0 if alone else Settings().log_wait_seconds)


def test_the_failure_is_reported_although_the_cluster_cannot_be_described(script: Any, context: dict[str, Any]) -> None:
    operator = sensor()
    emr = script(operator)
    for _ in range(2):
        emr.add_response("describe_step", step("FAILED"), STEP)
    emr.add_client_error("describe_cluster", "ThrottlingException", http_status_code=400)
    with pytest.raises(AirflowFailException, match="no space left"):
        operator.poke(context)


def test_the_sensor_polls_again_while_emr_is_not_available(script: Any, context: dict[str, Any]) -> None:
    operator = sensor()
    emr = script(operator)
    for status in (400, 503):
        emr.add_client_error("describe_step", "ThrottlingException", http_status_code=status)
        assert operator.poke(context) is False


def test_a_refused_request_fails_the_sensor(script: Any, context: dict[str, Any]) -> None:
    operator = sensor()
    script(operator).add_client_error("describe_step", "AccessDeniedException", http_status_code=400)
    with pytest.raises(ClientError, match="AccessDeniedException"):
        operator.poke(context)


def test_a_sensor_without_a_step_names_the_task_to_clear(script: Any, context: dict[str, Any]) -> None:
    operator = sensor()
    operator.step_id = ""
    script(operator)
    with pytest.raises(AirflowFailException, match="add_featurize has added no step"):
        operator.execute(context)


def test_a_sensor_links_to_the_logs_of_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example/team/")
    [link] = [link for link in sensor().operator_extra_links if link.name == "Step logs"]
    assert link.get_link(sensor(), ti_key=None) == "/team/fruit-reports/logs/j-1/s-1"


@pytest.mark.parametrize(
    ("make", "xcom", "cluster_id"),
    [
        (create, "j-9", "j-9"),
        (add, "j-9", "j-9"),
        (sensor, None, "j-1"),
        (partial(terminate, " j-1 j-2 "), None, "j-2"),
        (terminate, None, None),
        (create, None, None),
    ],
)
def test_every_emr_task_links_to_the_page_of_its_cluster_and_not_to_the_console(
    make: Any, xcom: str | None, cluster_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links.XCom, "get_value", lambda key, ti_key: xcom if key == "job_flow_id" else None)
    operator = make()
    assert {link.name for link in operator.operator_extra_links} <= {"Cluster", "Step logs"}
    [link] = [link for link in operator.operator_extra_links if link.name == "Cluster"]
    expected = f"/fruit-reports/clusters/{cluster_id}" if cluster_id else ""
    assert link.get_link(operator, ti_key=None) == expected


def test_a_poke_logs_the_state_of_the_step_and_nothing_about_its_client(
    script: Any, context: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loud = sensor()
    with capture_logs() as events:
        loud.hook.conn  # noqa: B018
    assert {"botocore.credentials", "botocore.configprovider"} <= {record.name for record in caplog.records}
    assert any("No connection ID provided" in event["event"] for event in events)
    caplog.clear()
    operator = sensor()
    with quiet_clients():
        script(operator).add_response("describe_step", step("RUNNING"), STEP)
    with capture_logs() as events, pytest.raises(AirflowRescheduleException):
        operator.execute(context)
    assert [record.getMessage() for record in caplog.records] == []
    logged = [event["event"] % event.get("positional_args", ()) for event in events]
    assert logged[1:] == ["Job flow currently RUNNING"], "the first line says that this is not Airflow's task runner"
    caplog.clear()
    boto3.client("emr")
    assert caplog.records, "only pokes are quiet"


def test_all_live_clusters_are_terminated_although_steps_cannot_be_cancelled(
    script: Any, context: dict[str, Any]
) -> None:
    operator = terminate()
    emr = script(operator)
    script_search(emr, cluster(), cluster("j-2"))
    emr.add_response("list_steps", {"Steps": [known_step("s-1", "featurize")]}, LIVE_STEPS)
    cancelled = {"ClusterId": "j-1", "StepIds": ["s-1"], "StepCancellationOption": "TERMINATE_PROCESS"}
    emr.add_response("cancel_steps", {}, cancelled)
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-1"]})
    emr.add_client_error("list_steps", service_error_code="AccessDeniedException")
    emr.add_response("terminate_job_flows", {}, {"JobFlowIds": ["j-2"]})
    script_search(emr)
    operator.execute(context)


def test_a_cluster_that_emr_refuses_to_terminate_is_reported_and_the_others_are_terminated(
    script: Any, context: dict[str, Any]
) -> None:
    """Eleven clusters: a request of TerminateJobFlows has at most ten ids (EMR API Reference)."""
    operator, ids = terminate(), [f"j-{number}" for number in range(1, 12)]
    emr = script(operator)
    script_search(emr, *(cluster(cluster_id) for cluster_id in ids))
    for cluster_id in ids:
        emr.add_response("list_steps", {"Steps": []}, {**LIVE_STEPS, "ClusterId": cluster_id})
        if cluster_id == "j-3":
            emr.add_client_error("terminate_job_flows", "ValidationException", "termination protected")
        else:
            emr.add_response("terminate_job_flows", {}, {"JobFlowIds": [cluster_id]})
    with pytest.raises(AirflowException, match=r"1 of 11 clusters not terminated .*j-3: .*termination protected"):
        operator.execute(context)


def test_a_cluster_is_terminated_by_its_id_when_listing_fails(script: Any, context: dict[str, Any]) -> None:
    operator = terminate("  j-1 j-1 ")
    emr = script(operator)
    emr.add_client_error("list_clusters", service_error_code="AccessDeniedException")
    script_termination(emr)
    operator.execute(context)


def test_the_teardown_fails_when_listing_fails_and_no_id_is_known(script: Any, context: dict[str, Any]) -> None:
    """A green teardown would hide a cluster that still costs money."""
    operator = terminate("  ")
    script(operator).add_client_error("list_clusters", service_error_code="AccessDeniedException")
    with pytest.raises(ClientError):
        operator.execute(context)


def test_a_cluster_that_stays_live_fails_the_teardown(script: Any, context: dict[str, Any], clock: list[float]) -> None:
    operator = terminate("j-1")
    emr = script(operator)
    script_search(emr, cluster())
    script_termination(emr, cluster())
    for _ in range(int(terminate_cluster.TERMINATION_SECONDS / terminate_cluster.POLL_SECONDS)):
        script_search(emr, cluster())
    with pytest.raises(AirflowException, match=r"j-1 .* still live 60 s after TerminateJobFlows; check whether"):
        operator.execute(context)
    assert sum(clock) == terminate_cluster.TERMINATION_SECONDS


def test_a_cluster_that_is_still_described_as_live_for_a_moment_does_not_fail_the_teardown(
    script: Any, context: dict[str, Any], clock: list[float]
) -> None:
    """TerminateJobFlows is asynchronous."""
    operator = terminate("j-1")
    emr = script(operator)
    script_search(emr, cluster())
    script_termination(emr, cluster())
    script_search(emr, cluster())
    script_search(emr, cluster(state="TERMINATING"))
    operator.execute(context)
    assert clock == [terminate_cluster.POLL_SECONDS] * 2


def test_the_teardown_does_not_wait_without_an_interrupted_request(
    script: Any, context: dict[str, Any], clock: list[float]
) -> None:
    """The id of a cluster that is not live any more changes nothing."""
    operator = terminate("j-1")
    emr = script(operator)
    for sending in (None, False):
        context["ti"].xcom[SENDING] = sending
        script_search(emr)
        operator.execute(context)
    assert clock == []


def test_the_teardown_waits_for_the_cluster_of_an_interrupted_request(
    interrupted: tuple[TerminateCluster, Stubber], context: dict[str, Any], clock: list[float]
) -> None:
    operator, emr = interrupted
    for _ in range(3):
        script_search(emr)
    script_search(emr, cluster())
    script_termination(emr)
    operator.execute(context)
    assert clock == [POLL_SECONDS] * 3


def test_the_teardown_stops_waiting_for_a_cluster_that_never_appears(
    interrupted: tuple[TerminateCluster, Stubber], context: dict[str, Any], clock: list[float]
) -> None:
    operator, emr = interrupted
    for _ in range(SEARCHES):
        script_search(emr)
    operator.execute(context)
    assert sum(clock) == APPEARANCE_SECONDS
