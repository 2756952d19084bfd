"""A run's clusters and steps on the local EMR endpoint: exactly one of each, whatever EMR answers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include.aws.retries import RetryPolicy
from include.cluster.tags import run_tags
from include.emr import client as emr_module
from include.emr.client import ClusterEndedError, Emr
from include.emr.identity import RunIdentity, is_live
from include.settings.deployment import Settings
from tests.forks import ForkedEndpoint

pytestmark = pytest.mark.slow

LAKE = "s3://lake"
THROTTLED = {"error": "ThrottlingException", "message": "Rate exceeded"}
BROKEN = {"error": "InternalServerError", "http_status": 500}


UNORDERED = ("--shuffle", "14", "--page-size", "5")
"""The endpoint of all tests: the product must not depend on an order or a page size that EMR does not promise."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ForkedEndpoint(tmp_path_factory.mktemp("emr"), UNORDERED) as endpoint:
        yield endpoint.url


@pytest.fixture
def late_account(tmp_path: Path) -> Iterator[Account]:
    """An account whose new and terminated clusters become visible two seconds late."""
    with ForkedEndpoint(tmp_path / "emr", [*UNORDERED, "--staleness", "2"]) as endpoint:
        yield Account(endpoint.url)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emr_module, "APPEARANCE_SECONDS", 4.0)
    monkeypatch.setattr(emr_module, "POLL_SECONDS", 0.2)


class Account:
    """EMR as the product sees it (``emr``) and as an observer sees it (``client``), with faults."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = self.connect()
        self.emr = Emr(self.connect(read_timeout=1, retries={"total_max_attempts": 1}), RetryPolicy(20, 0.2))
        self.pending: list[bool] = []

    def connect(self, **options: Any) -> Any:
        return boto3.client(
            "emr",
            endpoint_url=self.url,
            region_name="eu-west-3",
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(**options),
        )

    def fail(self, **scenario: Any) -> None:
        httpx.put(f"{self.url}/local-emr/faults", json=scenario, trust_env=False).raise_for_status()

    def find_or_create(self, identity: RunIdentity, lake: str = LAKE, *, is_retry: bool = False) -> dict[str, Any]:
        return self.emr.find_or_create_cluster(
            identity, request(identity, lake), self.pending.append, is_retry=is_retry
        )

    def cluster_ids(self, name: str) -> list[str]:
        """Return the ids of the clusters with a name, the newest first."""
        pages = self.client.get_paginator("list_clusters").paginate()
        found = [cluster for page in pages for cluster in page["Clusters"] if cluster["Name"] == name]
        found.sort(key=lambda cluster: cluster["Status"]["Timeline"]["CreationDateTime"], reverse=True)
        return [cluster["Id"] for cluster in found]

    def terminate(self, cluster_id: str) -> None:
        self.client.terminate_job_flows(JobFlowIds=[cluster_id])
        self.client.get_waiter("cluster_terminated").wait(ClusterId=cluster_id, WaiterConfig={"Delay": 1})


@pytest.fixture
def account(url: str) -> Iterator[Account]:
    account = Account(url)
    yield account
    account.fail()


@pytest.fixture
def identity(request: pytest.FixtureRequest) -> RunIdentity:
    """A run that no other test uses."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)
    return RunIdentity(slug, LAKE, datetime.now(UTC), "round1")


def request(identity: RunIdentity, lake: str = LAKE) -> dict[str, Any]:
    tags = run_tags(slug=identity.slug, run_id="manual__1", lake=lake, settings=Settings())
    return {
        "Name": identity.name,
        "ReleaseLabel": "emr-spark-8.1.0",
        "ServiceRole": "service",
        "JobFlowRole": "nodes",
        "Instances": {"MasterInstanceType": "m6g.xlarge", "InstanceCount": 1, "KeepJobFlowAliveWhenNoSteps": True},
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
    }


def step(name: str, *argv: str) -> dict[str, Any]:
    return {
        "Name": name,
        "ActionOnFailure": "CONTINUE",
        "HadoopJarStep": {"Jar": "command-runner.jar", "Args": list(argv or ("true",))},
    }


FAULTS = {
    "throttled": [{"action": "RunJobFlow", "times": 3, **THROTTLED}],
    "server error, not created": [{"action": "RunJobFlow", **BROKEN}],
    "server error, created": [{"action": "RunJobFlow", "when": "after", **BROKEN}],
    "answered too late": [{"action": "RunJobFlow", "when": "after", "delay_seconds": 2}],
    "server error, created, and listing fails": [
        {"action": "RunJobFlow", "when": "after", **BROKEN},
        {"action": "ListClusters", "times": 3, **THROTTLED},
        {"action": "DescribeCluster", "times": 2, **BROKEN},
    ],
}


@pytest.mark.parametrize("rules", FAULTS.values(), ids=FAULTS)
def test_one_cluster_is_created_whatever_emr_answers(
    account: Account, identity: RunIdentity, rules: list[dict[str, Any]]
) -> None:
    account.fail(api=rules)
    cluster = account.find_or_create(identity)
    account.fail()
    time.sleep(1.5)  # a request whose answer was late has taken effect by now
    assert account.cluster_ids(identity.name) == [cluster["Id"]]
    assert is_live(cluster)
    assert account.pending[0] is True
    assert account.pending[-1] is False, "the outcome is known"


@pytest.mark.parametrize("rules", FAULTS.values(), ids=FAULTS)
def test_a_second_attempt_attaches_to_the_cluster(
    account: Account, identity: RunIdentity, rules: list[dict[str, Any]]
) -> None:
    first = account.find_or_create(identity)
    account.pending.clear()
    account.fail(api=rules)
    assert account.find_or_create(identity)["Id"] == first["Id"]
    assert account.pending == [], "nothing was sent"


def test_no_cluster_is_created_when_emr_is_down_for_longer_than_the_retry_timeout(
    account: Account, identity: RunIdentity
) -> None:
    account.emr = Emr(account.emr.client, RetryPolicy(1, 0.2))
    account.fail(api=[{"action": "ListClusters", "times": "forever", **BROKEN}])
    with pytest.raises(ClientError, match="InternalServerError"):
        account.find_or_create(identity)
    assert account.pending == []
    account.fail()
    assert account.cluster_ids(identity.name) == []


@pytest.mark.parametrize(("when", "created"), [("before", 0), ("after", 1)])
def test_an_unknown_outcome_is_reported_to_the_teardown(
    account: Account, identity: RunIdentity, when: str, created: int
) -> None:
    """RunJobFlow fails, and so does every search for its cluster."""
    account.emr = Emr(account.emr.client, RetryPolicy(1, 0.2))
    pages = len(list(account.client.get_paginator("list_clusters").paginate()))
    account.fail(
        api=[
            {"action": "RunJobFlow", "times": "forever", "when": when, **BROKEN},
            {"action": "ListClusters", "skip": pages, "times": "forever", **BROKEN},
        ]
    )
    with pytest.raises((ClientError, BotoCoreError)):
        account.find_or_create(identity)
    assert account.pending[-1] is True
    account.fail()
    assert len(account.cluster_ids(identity.name)) == created


def test_a_rejected_request_is_not_repeated(account: Account, identity: RunIdentity) -> None:
    wrong = request(identity) | {"ReleaseLabel": "emr-0.0.0"}
    with pytest.raises(ClientError, match="release label is invalid"):
        account.emr.find_or_create_cluster(identity, wrong, account.pending.append, is_retry=False)
    assert account.pending == [True, False], "rejected: there is no cluster"


def test_the_same_run_of_another_deployment_has_another_cluster(account: Account, identity: RunIdentity) -> None:
    theirs = account.find_or_create(
        RunIdentity(identity.slug, "s3://other", identity.run_after, "round1"), lake="s3://other"
    )
    ours = account.find_or_create(identity)
    assert ours["Id"] != theirs["Id"]
    assert [cluster["Id"] for cluster in account.emr.clusters(identity, live=True)] == [ours["Id"]]


def test_a_terminated_cluster_of_this_round_is_not_replaced(account: Account, identity: RunIdentity) -> None:
    cluster = account.find_or_create(identity)
    account.terminate(cluster["Id"])
    with pytest.raises(ClusterEndedError, match=f"{cluster['Id']} is TERMINATED"):
        account.find_or_create(identity)
    assert account.cluster_ids(identity.name) == [cluster["Id"]]


def test_the_next_round_creates_one_new_cluster(account: Account, identity: RunIdentity) -> None:
    first = account.find_or_create(identity)
    account.terminate(first["Id"])
    again = RunIdentity(identity.slug, LAKE, identity.run_after, "round2")
    second = account.find_or_create(again)
    assert account.find_or_create(again)["Id"] == second["Id"]
    assert account.cluster_ids(identity.name) == [second["Id"], first["Id"]]


def test_a_live_cluster_of_an_earlier_round_is_reused_and_belongs_to_the_current_round(
    account: Account, identity: RunIdentity
) -> None:
    first = account.find_or_create(identity)
    again = RunIdentity(identity.slug, LAKE, identity.run_after, "round2")
    attached = account.find_or_create(again)
    assert attached["Id"] == first["Id"]
    assert again.is_of_this_round(attached)
    assert again.is_of_this_round(account.client.describe_cluster(ClusterId=first["Id"])["Cluster"])
    account.terminate(first["Id"])
    with pytest.raises(ClusterEndedError):
        account.find_or_create(again)
    assert account.cluster_ids(identity.name) == [first["Id"]], "an ended cluster of the round is not replaced"


ADD_FAULTS = {name: [rule | {"action": "AddJobFlowSteps"} for rule in rules[:1]] for name, rules in FAULTS.items()}


@pytest.mark.parametrize("rules", ADD_FAULTS.values(), ids=ADD_FAULTS)
def test_each_step_is_added_once_whatever_emr_answers(
    account: Account, identity: RunIdentity, rules: list[dict[str, Any]]
) -> None:
    cluster_id = account.find_or_create(identity)["Id"]
    steps = [step("a"), step("b")]
    account.fail(api=rules)
    added = account.emr.find_or_add_steps(cluster_id, steps)
    account.fail()
    time.sleep(1.5)
    listed = account.client.list_steps(ClusterId=cluster_id)["Steps"]
    assert {step["Name"]: step["Id"] for step in listed} == dict(zip(["a", "b"], added, strict=True))
    assert len(listed) == 2
    assert account.emr.find_or_add_steps(cluster_id, steps) == added


def test_steps_of_an_unanswered_request_are_found_after_the_retry_timeout(
    account: Account, identity: RunIdentity
) -> None:
    """No retry is left: only the search finds what the request added."""
    cluster_id = account.find_or_create(identity)["Id"]
    account.fail(api=[{"action": "AddJobFlowSteps", "when": "after", **BROKEN}])
    added = Emr(account.emr.client, RetryPolicy(0)).find_or_add_steps(cluster_id, [step("a"), step("b")])
    listed = account.client.list_steps(ClusterId=cluster_id)["Steps"]
    assert {item["Name"]: item["Id"] for item in listed} == dict(zip(["a", "b"], added, strict=True))


def test_a_step_that_fails_before_it_is_found_is_not_added_again(account: Account, identity: RunIdentity) -> None:
    """EMR answers with an error three seconds late, when the step that it has added has already failed."""
    cluster_id = account.find_or_create(identity)["Id"]
    account.fail(api=[{"action": "AddJobFlowSteps", "when": "after", "delay_seconds": 3, **BROKEN}])
    added = account.emr.find_or_add_steps(cluster_id, [step("a", "false")])
    listed = account.client.list_steps(ClusterId=cluster_id)["Steps"]
    assert [(item["Id"], item["Status"]["State"]) for item in listed] == [(added[0], "FAILED")]


def test_a_failed_step_is_added_again(account: Account, identity: RunIdentity) -> None:
    cluster_id = account.find_or_create(identity)["Id"]
    first = account.emr.find_or_add_steps(cluster_id, [step("a", "false")])
    deadline = time.monotonic() + 60
    while account.client.describe_step(ClusterId=cluster_id, StepId=first[0])["Step"]["Status"]["State"] != "FAILED":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert account.emr.find_or_add_steps(cluster_id, [step("a")]) != first


def test_a_step_of_an_earlier_plan_is_cancelled_and_the_step_of_this_plan_is_added(
    account: Account, identity: RunIdentity
) -> None:
    """`plan_cluster` was cleared after a deployment: the command names other code."""
    cluster_id = account.find_or_create(identity)["Id"]
    old = account.emr.find_or_add_steps(cluster_id, [step("a", "sleep", "600"), step("b", "sleep", "601")])
    new = account.emr.find_or_add_steps(cluster_id, [step("a", "sleep", "602"), step("b", "sleep", "601")])
    assert new[0] not in old, "the old command does not count as this step"
    assert new[1] == old[1], "the same command is not started twice"
    states = {item["Id"]: item["Status"]["State"] for item in account.client.list_steps(ClusterId=cluster_id)["Steps"]}
    assert states[old[0]] in {"CANCEL_PENDING", "CANCELLED"}
    assert states[new[0]] in {"PENDING", "RUNNING"}


def test_no_step_is_added_to_a_terminated_cluster(account: Account, identity: RunIdentity) -> None:
    cluster_id = account.find_or_create(identity)["Id"]
    account.terminate(cluster_id)
    with pytest.raises(ClusterEndedError, match="TERMINATED"):
        account.emr.find_or_add_steps(cluster_id, [step("a")])


def test_running_and_pending_steps_are_cancelled(account: Account, identity: RunIdentity) -> None:
    cluster_id = account.find_or_create(identity)["Id"]
    added = account.emr.find_or_add_steps(cluster_id, [step("a", "sleep", "600"), step("b")])
    assert sorted(account.emr.cancel_steps(cluster_id)) == sorted(added)
    deadline = time.monotonic() + 60
    while account.emr.steps(cluster_id, ("PENDING", "RUNNING", "CANCEL_PENDING")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    states = {step["Status"]["State"] for step in account.client.list_steps(ClusterId=cluster_id)["Steps"]}
    assert states == {"CANCELLED"}
    assert account.emr.cancel_steps(cluster_id) == []


def test_clusters_are_found_on_every_page(account: Account, identity: RunIdentity) -> None:
    cluster = account.find_or_create(identity)
    for _ in range(6):  # a page holds 5
        account.client.run_job_flow(**request(identity) | {"Name": "another", "Tags": []})
    assert [live["Id"] for live in account.emr.clusters(identity, live=True)] == [cluster["Id"]]


def test_the_newest_cluster_is_the_first_one_in_whatever_order_emr_lists_them(
    account: Account, identity: RunIdentity
) -> None:
    created = []
    for number in range(6):
        again = RunIdentity(identity.slug, LAKE, identity.run_after, f"round{number}")
        created.append(account.find_or_create(again)["Id"])
        account.terminate(created[-1])
    assert [cluster["Id"] for cluster in account.emr.clusters(identity, live=False)] == created[::-1]


def test_steps_are_in_the_order_of_their_creation_in_whatever_order_emr_lists_them(
    account: Account, identity: RunIdentity
) -> None:
    cluster_id = account.find_or_create(identity)["Id"]
    steps = [step(f"{number}", "sleep", "600") for number in range(8)]
    added = [account.emr.find_or_add_steps(cluster_id, [each])[0] for each in steps]
    assert [item["Id"] for item in account.emr.steps(cluster_id, ("PENDING", "RUNNING"))] == added


def test_a_cluster_that_is_listed_late_is_not_created_again(late_account: Account, identity: RunIdentity) -> None:
    """RunJobFlow takes effect and fails; ListClusters shows its cluster later."""
    late_account.fail(api=[{"action": "RunJobFlow", "when": "after", **BROKEN}])
    cluster = late_account.find_or_create(identity)
    assert late_account.cluster_ids(identity.name) == [cluster["Id"]]


def test_a_retry_attaches_to_the_cluster_of_an_attempt_that_died_before_emr_lists_it(
    late_account: Account, identity: RunIdentity
) -> None:
    """The worker was lost directly after RunJobFlow: the next attempt knows nothing of the cluster."""
    created = late_account.client.run_job_flow(**identity.with_round(request(identity)))["JobFlowId"]
    assert late_account.cluster_ids(identity.name) == []
    assert late_account.find_or_create(identity, is_retry=True)["Id"] == created
    assert late_account.cluster_ids(identity.name) == [created]
    assert late_account.pending == [True, False], "a teardown during the search would search, too"


def test_a_retry_creates_the_cluster_that_no_attempt_has_created(account: Account, identity: RunIdentity) -> None:
    cluster = account.find_or_create(identity, is_retry=True)
    assert account.cluster_ids(identity.name) == [cluster["Id"]]
    assert account.pending[-1] is False


def test_a_retry_does_not_replace_a_cluster_that_has_ended_in_this_round(
    account: Account, identity: RunIdentity
) -> None:
    account.terminate(account.find_or_create(identity)["Id"])
    account.pending.clear()
    with pytest.raises(ClusterEndedError):
        account.find_or_create(identity, is_retry=True)
    assert account.pending[-1] is False, "the teardown need not search"


def test_a_terminated_cluster_that_is_described_as_live_gets_no_step(
    late_account: Account, identity: RunIdentity
) -> None:
    """EMR refuses the steps. The cluster counts as ended as soon as EMR describes it so."""
    cluster_id = late_account.find_or_create(identity)["Id"]
    late_account.client.terminate_job_flows(JobFlowIds=[cluster_id])
    with pytest.raises((ClusterEndedError, ClientError)):
        late_account.emr.find_or_add_steps(cluster_id, [step("a")])
    late_account.client.get_waiter("cluster_terminated").wait(ClusterId=cluster_id, WaiterConfig={"Delay": 1})
    assert late_account.client.list_steps(ClusterId=cluster_id)["Steps"] == []
