"""The reaper terminates the clusters of this lake whose run has ended, and no others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from include.aws.retries import RetryPolicy
from include.cluster.request import cluster_name
from include.cluster.tags import LAKE_TAG, PROJECT_TAG, RUN_ID_TAG, run_tags
from include.emr.client import Emr
from include.emr.identity import LIVE_CLUSTER_STATES
from include.emr.reaper import LONGEST_RUN, Reaper, reap
from include.settings.deployment import Settings
from include.settings.parameters import MAX_STEP_MINUTES

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SLUG = "20261122T000000Z-0123abcd"
RUN_ID = "scheduled__2026-11-22T00:00:00+00:00"
LAKE = "s3://lake"


def cluster(age_minutes: float = 60, state: str = "WAITING", name: str = cluster_name(SLUG), **tags: str | None) -> Any:
    """Return the cluster of a run of this lake, changed by the arguments; a tag that is None is removed."""
    ours = run_tags(slug=SLUG, run_id=RUN_ID, lake=LAKE, settings=Settings())
    changed = ours | {
        {"project": PROJECT_TAG, "lake": LAKE_TAG, "run_id": RUN_ID_TAG}[key]: v for key, v in tags.items()
    }
    return {
        "Id": "j-1",
        "Name": name,
        "Status": {"State": state, "Timeline": {"CreationDateTime": NOW - timedelta(minutes=age_minutes)}},
        "Tags": [{"Key": key, "Value": value} for key, value in changed.items() if value is not None],
    }


def reaper(*live_runs: str) -> Reaper:
    return Reaper(LAKE, NOW, timedelta(minutes=10), lambda run_id: run_id in live_runs)


@pytest.mark.parametrize("state", LIVE_CLUSTER_STATES)
def test_cluster_of_an_ended_run_is_terminated(state: str) -> None:
    assert RUN_ID in str(reaper().reason_to_terminate(cluster(state=state)))


def test_cluster_of_a_live_run_is_kept() -> None:
    assert reaper(RUN_ID).reason_to_terminate(cluster()) is None


def test_cluster_older_than_the_longest_run_is_terminated_although_its_run_is_live() -> None:
    assert timedelta(minutes=2 * MAX_STEP_MINUTES) < LONGEST_RUN
    minutes = LONGEST_RUN.total_seconds() / 60
    assert reaper(RUN_ID).reason_to_terminate(cluster(age_minutes=minutes - 1)) is None
    assert "old" in str(reaper(RUN_ID).reason_to_terminate(cluster(age_minutes=minutes + 1)))


@pytest.mark.parametrize(
    "other",
    [
        cluster(age_minutes=9),
        cluster(lake="s3://another"),
        cluster(lake=None),
        cluster(project="another"),
        cluster(project=None),
        cluster(name="fruit-features of somebody"),
        cluster(state="TERMINATING"),
        cluster(state="TERMINATED"),
    ],
    ids=["young", "another lake", "no lake", "another project", "no project", "another name", "ending", "ended"],
)
def test_other_clusters_are_not_terminated(other: Any) -> None:
    assert reaper().reason_to_terminate(other) is None


@pytest.mark.parametrize("run_id", [None, "=sha256:00", "=zz"])
def test_cluster_without_a_valid_run_id_is_kept_for_the_longest_run(run_id: str | None) -> None:
    assert reaper().reason_to_terminate(cluster(run_id=run_id)) is None
    assert (
        reaper().reason_to_terminate(cluster(age_minutes=LONGEST_RUN.total_seconds() / 60 + 1, run_id=run_id))
        is not None
    )


class Clusters:
    """A fake EMR client. It records the terminated clusters.

    It refuses to describe those in ``forbidden``, and to terminate those in ``protected``.
    """

    def __init__(self, *clusters: Any) -> None:
        self.by_id = {f"j-{number}": found | {"Id": f"j-{number}"} for number, found in enumerate(clusters)}
        self.terminated: list[str] = []
        self.forbidden: dict[str, str] = {}  # error codes by cluster id
        self.protected: set[str] = set()

    def list_clusters(self, ClusterStates: list[str]) -> dict[str, Any]:  # noqa: N803
        found = [item for item in self.by_id.values() if item["Status"]["State"] in ClusterStates]
        return {"Clusters": [{"Id": item["Id"], "Name": item["Name"]} for item in found]}

    def describe_cluster(self, ClusterId: str) -> dict[str, Any]:  # noqa: N803
        if ClusterId in self.forbidden:
            raise ClientError({"Error": {"Code": self.forbidden[ClusterId]}}, "DescribeCluster")
        return {"Cluster": self.by_id[ClusterId]}

    def terminate_job_flows(self, JobFlowIds: list[str]) -> dict[str, Any]:  # noqa: N803
        if self.protected & set(JobFlowIds):
            raise ClientError({"Error": {"Code": "ValidationException"}}, "TerminateJobFlows")
        self.terminated += JobFlowIds
        return {}


def test_only_clusters_of_ended_runs_of_this_lake_are_terminated() -> None:
    emr = Clusters(cluster(), cluster(lake="s3://another"), cluster(age_minutes=1), cluster(name="x"), cluster())
    assert set(reap(Emr(emr, RetryPolicy(1)), reaper()).terminated) == {"j-0", "j-4"}
    assert emr.terminated == ["j-0", "j-4"]


def test_cluster_that_cannot_be_described_does_not_protect_the_others() -> None:
    """The policy in ``infra`` allows only clusters with our tag, but any cluster may have a name like ours."""
    emr = Clusters(cluster(), cluster(), cluster())
    emr.forbidden = {"j-0": "AccessDeniedException", "j-1": "AccessDenied"}
    reaped = reap(Emr(emr, RetryPolicy(1)), reaper())
    assert (set(reaped.terminated), reaped.failures) == ({"j-2"}, {})


def test_a_protected_cluster_is_reported_and_the_others_are_terminated() -> None:
    emr = Clusters(cluster(), cluster(), cluster())
    emr.protected = {"j-0", "j-1"}
    reaped = reap(Emr(emr, RetryPolicy(1)), reaper())
    assert emr.terminated == ["j-2"] == list(reaped.terminated)
    assert set(reaped.failures) == {"j-0", "j-1"}
    assert "ValidationException" in reaped.failures["j-0"]
