"""A run's clusters and steps on the local EMR endpoint, with everything that EMR may answer: never two, never none."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include.aws.retries import RetryPolicy
from include.cluster.tags import run_tags
from include.emr import client as emr_module
from include.emr.client import ClusterEndedError, Emr, Identity, is_live
from include.settings.deployment import Settings
from local.emr.process import EndpointProcess

pytestmark = pytest.mark.slow

LAKE = "s3://lake"
THROTTLED = {"error": "ThrottlingException", "message": "Rate exceeded"}
BROKEN = {"error": "InternalServerError", "http_status": 500}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EndpointProcess(tmp_path_factory.mktemp("emr")) as endpoint:
        yield endpoint.url


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emr_module, "APPEARANCE_SECONDS", 4.0)
    monkeypatch.setattr(emr_module, "LOOK_SECONDS", 0.2)


class Account:
    """EMR as the product and as an onlooker sees it, with faults."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = self.connect()
        self.emr = Emr(self.connect(read_timeout=1, retries={"total_max_attempts": 1}), RetryPolicy(20, 0.2))
        self.sent: list[bool] = []

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

    def join(self, identity: Identity, lake: str = LAKE) -> dict[str, Any]:
        return self.emr.join(identity, request(identity, lake), self.sent.append)

    def clusters(self, name: str) -> list[str]:
        return [cluster["Id"] for cluster in self.client.list_clusters()["Clusters"] if cluster["Name"] == name]

    def end(self, cluster_id: str) -> None:
        self.client.terminate_job_flows(JobFlowIds=[cluster_id])
        self.client.get_waiter("cluster_terminated").wait(ClusterId=cluster_id, WaiterConfig={"Delay": 1})


@pytest.fixture
def account(url: str) -> Iterator[Account]:
    account = Account(url)
    yield account
    account.fail()


@pytest.fixture
def identity(request: pytest.FixtureRequest) -> Identity:
    """A run that no other test has."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)
    return Identity(slug, LAKE, datetime.now(UTC), "round1")


def request(identity: Identity, lake: str = LAKE) -> dict[str, Any]:
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
    "failed within, before": [{"action": "RunJobFlow", **BROKEN}],
    "failed within, after": [{"action": "RunJobFlow", "when": "after", **BROKEN}],
    "answered too late": [{"action": "RunJobFlow", "when": "after", "delay_seconds": 2}],
    "looking fails, too": [
        {"action": "RunJobFlow", "when": "after", **BROKEN},
        {"action": "ListClusters", "times": 3, **THROTTLED},
        {"action": "DescribeCluster", "times": 2, **BROKEN},
    ],
}


@pytest.mark.parametrize("rules", FAULTS.values(), ids=FAULTS)
def test_one_cluster_is_made_whatever_becomes_of_the_answer(
    account: Account, identity: Identity, rules: list[dict[str, Any]]
) -> None:
    account.fail(api=rules)
    cluster = account.join(identity)
    account.fail()
    time.sleep(1.5)  # a request that was answered late has come through by now
    assert account.clusters(identity.name) == [cluster["Id"]]
    assert is_live(cluster)
    assert account.sent[0] is True
    assert account.sent[-1] is False, "it is known what came of it"


@pytest.mark.parametrize("rules", FAULTS.values(), ids=FAULTS)
def test_a_second_try_attaches_and_makes_none(
    account: Account, identity: Identity, rules: list[dict[str, Any]]
) -> None:
    first = account.join(identity)
    account.sent.clear()
    account.fail(api=rules)
    assert account.join(identity)["Id"] == first["Id"]
    assert account.sent == [], "nothing was sent"


def test_while_emr_is_down_for_longer_than_the_retry_timeout_nothing_is_made_and_the_error_is_told(
    account: Account, identity: Identity
) -> None:
    account.emr = Emr(account.emr.client, RetryPolicy(1, 0.2))
    account.fail(api=[{"action": "ListClusters", "times": "forever", **BROKEN}])
    with pytest.raises(ClientError, match="InternalServerError"):
        account.join(identity)
    assert account.sent == []
    account.fail()
    assert account.clusters(identity.name) == []


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
def test_what_nobody_knows_is_told_to_the_teardown(account: Account, identity: Identity, when: str, made: int) -> None:
    """RunJobFlow fails, and so does every look at what came of it."""
    account.emr = Emr(account.emr.client, RetryPolicy(1, 0.2))
    pages = len(list(account.client.get_paginator("list_clusters").paginate()))
    account.fail(
        api=[
            {"action": "RunJobFlow", "times": "forever", "when": when, **BROKEN},
            {"action": "ListClusters", "skip": pages, "times": "forever", **BROKEN},
        ]
    )
    with pytest.raises((ClientError, BotoCoreError)):
        account.join(identity)
    assert account.sent[-1] is True
    account.fail()
    assert len(account.clusters(identity.name)) == made


def test_what_emr_refuses_is_not_repeated(account: Account, identity: Identity) -> None:
    wrong = request(identity) | {"ReleaseLabel": "emr-0.0.0"}
    with pytest.raises(ClientError, match="release label is invalid"):
        account.emr.join(identity, wrong, account.sent.append)
    assert account.sent == [True, False], "answered: no cluster can come of it"


def test_the_same_run_of_another_deployment_has_a_cluster_of_its_own(account: Account, identity: Identity) -> None:
    theirs = account.join(Identity(identity.slug, "s3://other", identity.run_after, "round1"), lake="s3://other")
    ours = account.join(identity)
    assert ours["Id"] != theirs["Id"]
    assert [cluster["Id"] for cluster in account.emr.clusters(identity, live=True)] == [ours["Id"]]


def test_a_cluster_of_this_round_that_has_ended_is_not_replaced(account: Account, identity: Identity) -> None:
    cluster = account.join(identity)
    account.end(cluster["Id"])
    with pytest.raises(ClusterEndedError, match=f"{cluster['Id']} is TERMINATED"):
        account.join(identity)
    assert account.clusters(identity.name) == [cluster["Id"]]


def test_in_the_next_round_there_is_one_new_cluster(account: Account, identity: Identity) -> None:
    first = account.join(identity)
    account.end(first["Id"])
    again = Identity(identity.slug, LAKE, identity.run_after, "round2")
    second = account.join(again)
    assert account.join(again)["Id"] == second["Id"]
    assert account.clusters(identity.name) == [second["Id"], first["Id"]]


def test_a_live_cluster_of_an_earlier_round_is_used(account: Account, identity: Identity) -> None:
    first = account.join(identity)
    assert account.join(Identity(identity.slug, LAKE, identity.run_after, "round2"))["Id"] == first["Id"]


ADD_FAULTS = {name: [rule | {"action": "AddJobFlowSteps"} for rule in rules[:1]] for name, rules in FAULTS.items()}


@pytest.mark.parametrize("rules", ADD_FAULTS.values(), ids=ADD_FAULTS)
def test_each_step_is_added_once_whatever_becomes_of_the_answer(
    account: Account, identity: Identity, rules: list[dict[str, Any]]
) -> None:
    cluster_id = account.join(identity)["Id"]
    steps = [step("a"), step("b")]
    account.fail(api=rules)
    added = account.emr.join_steps(cluster_id, steps)
    account.fail()
    time.sleep(1.5)
    listed = account.client.list_steps(ClusterId=cluster_id)["Steps"]
    assert {step["Name"]: step["Id"] for step in listed} == dict(zip(["a", "b"], added, strict=True))
    assert len(listed) == 2
    assert account.emr.join_steps(cluster_id, steps) == added


def test_a_failed_step_is_added_again(account: Account, identity: Identity) -> None:
    cluster_id = account.join(identity)["Id"]
    first = account.emr.join_steps(cluster_id, [step("a", "false")])
    deadline = time.monotonic() + 60
    while account.client.describe_step(ClusterId=cluster_id, StepId=first[0])["Step"]["Status"]["State"] != "FAILED":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert account.emr.join_steps(cluster_id, [step("a")]) != first


def test_no_step_is_added_to_a_cluster_that_has_ended(account: Account, identity: Identity) -> None:
    cluster_id = account.join(identity)["Id"]
    account.end(cluster_id)
    with pytest.raises(ClusterEndedError, match="TERMINATED"):
        account.emr.join_steps(cluster_id, [step("a")])


def test_running_and_waiting_steps_are_cancelled(account: Account, identity: Identity) -> None:
    cluster_id = account.join(identity)["Id"]
    added = account.emr.join_steps(cluster_id, [step("a", "sleep", "600"), step("b")])
    assert sorted(account.emr.cancel_steps(cluster_id)) == sorted(added)
    deadline = time.monotonic() + 60
    while account.emr.steps(cluster_id, ("PENDING", "RUNNING", "CANCEL_PENDING")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    states = {step["Status"]["State"] for step in account.client.list_steps(ClusterId=cluster_id)["Steps"]}
    assert states == {"CANCELLED"}
    assert account.emr.cancel_steps(cluster_id) == []


def test_clusters_are_found_on_every_page(account: Account, identity: Identity) -> None:
    cluster = account.join(identity)
    for _ in range(51):  # a page has 50
        account.client.run_job_flow(**request(identity) | {"Name": "another", "Tags": []})
    assert [found["Id"] for found in account.emr.clusters(identity, live=True)] == [cluster["Id"]]
