"""How a run recognizes its clusters: by name, tags and round.

ListClusters does not return tags. A cluster is a candidate when its *name* contains the run's slug; it belongs to the
run when DescribeCluster shows the run's tags, because two Airflow deployments in one account may have runs with the
same id. Another tag contains the last *round* that used the cluster. Each execution of ``open_run`` starts a round;
Airflow repeats ``open_run`` when a person clears any task that uses the cluster. A task that attaches to a live cluster
of an earlier round changes its tag to the current round.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from include.cluster.request import cluster_name
from include.cluster.tags import LAKE_TAG, ROUND_TAG, RUN_TAG, encode_tag
from include.records import ClusterRequest, JsonObject, Run

LIVE_CLUSTER_STATES = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")

Cluster = JsonObject
"""``Cluster`` in EMR's answer to DescribeCluster."""


@dataclass(frozen=True)
class RunIdentity:
    """The properties that identify a run's clusters.

    Parameters
    ----------
    slug, lake : str
        The run's slug, and the root of the lake that it uses.
    run_after : datetime
        The run's clusters are not older than this.
    round : str
        The current round of the run.
    """

    slug: str
    lake: str
    run_after: datetime
    round: str

    @classmethod
    def from_run(cls, run: Run) -> RunIdentity:
        """Return the identity of the run that ``open_run`` returned."""
        return cls(run["slug"], run["lake"], datetime.fromisoformat(run["run_after"]), run["round"])

    @property
    def name(self) -> str:
        """The cluster's name."""
        return cluster_name(self.slug)

    def owns(self, cluster: Cluster) -> bool:
        """Whether a described cluster belongs to the run, by its tags."""
        tags = cluster_tags(cluster)
        return tags.get(RUN_TAG) == self.slug and tags.get(LAKE_TAG) == encode_tag(self.lake)

    @property
    def round_tag(self) -> dict[str, str]:
        """The tag of a cluster that the current round uses, as EMR expects it."""
        return {"Key": ROUND_TAG, "Value": self.round}

    def is_of_this_round(self, cluster: Cluster) -> bool:
        """Whether the current round created a described cluster or attached to it."""
        return cluster_tags(cluster).get(ROUND_TAG) == self.round

    def with_round(self, request: ClusterRequest) -> ClusterRequest:
        """Return a RunJobFlow request with the tag of the current round."""
        return request | {"Tags": [*request["Tags"], self.round_tag]}


def cluster_tags(cluster: Cluster) -> dict[str, str]:
    """Return the tags of a described cluster."""
    return {tag["Key"]: tag.get("Value", "") for tag in cluster.get("Tags", [])}


def created_at(cluster: Cluster) -> datetime:
    """Return when a cluster was created; EMR lists clusters in no promised order."""
    created: datetime = cluster["Status"]["Timeline"]["CreationDateTime"]
    return created


def is_live(cluster: Cluster) -> bool:
    """Whether a cluster is neither terminated nor terminating."""
    return cluster["Status"]["State"] in LIVE_CLUSTER_STATES
