"""A cluster of the project as EMR, or the local endpoint, describes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from botocore.exceptions import ClientError

from include.cluster.tags import LAKE_TAG, PROJECT, PROJECT_TAG, encode_tag
from include.emr.client import create_hook, open_emr
from include.emr.identity import cluster_tags
from include.records import JsonObject
from include.settings.deployment import Settings


class UnknownClusterError(LookupError):
    """EMR knows no such cluster, or the cluster is not one of this lake."""


@dataclass(frozen=True)
class Step:
    """A step of a cluster."""

    id: str
    name: str
    state: str
    started_at: datetime | None
    seconds: float | None
    """Of what has not ended, until now."""
    reason: str


@dataclass(frozen=True)
class ShownCluster:
    """A cluster and its steps, the first one first.

    Attributes
    ----------
    console : str or None
        Address of the cluster in the AWS console; None if the cluster is on the local endpoint.
    """

    id: str
    name: str
    state: str
    reason: str
    release: str
    created_at: datetime | None
    ready_at: datetime | None
    ended_at: datetime | None
    steps: tuple[Step, ...]
    console: str | None


def read_cluster(cluster_id: str, settings: Settings) -> ShownCluster:
    """Return a cluster of the settings' lake.

    Raises
    ------
    UnknownClusterError
        If EMR does not describe it: it keeps terminated clusters for two months, and Airflow's role may describe only
        clusters of the project. If it is a cluster of another lake.
    BotoCoreError, EndpointRefusedError
        If EMR does not answer, or is not where it may be.
    """
    # A person waits: without an answer, the page says so at once.
    emr = open_emr(create_hook(settings), replace(settings, api_patience_seconds=0.0))
    try:
        cluster = emr.describe(cluster_id)
    except ClientError as error:
        raise UnknownClusterError(f"EMR does not describe the cluster {cluster_id}: {error}") from error
    tags = cluster_tags(cluster)
    if (tags.get(PROJECT_TAG), tags.get(LAKE_TAG)) != (PROJECT, encode_tag(settings.lake_root)):
        raise UnknownClusterError(f"the cluster {cluster_id} is not one of the lake {settings.lake_root}")
    try:
        steps = emr.list_all("list_steps", "Steps", ClusterId=cluster_id)
    except ClientError as error:
        raise UnknownClusterError(f"EMR does not list the steps of the cluster {cluster_id}: {error}") from error
    return build_cluster(cluster, steps, settings, datetime.now(UTC))


def build_cluster(cluster: JsonObject, steps: list[JsonObject], settings: Settings, now: datetime) -> ShownCluster:
    """Return what the page shows of EMR's answers; ``now`` ends what has not ended."""
    status = cluster["Status"]
    times = status.get("Timeline", {})
    change = status.get("StateChangeReason") or {}
    shown = [_step(step, now) for step in steps]
    return ShownCluster(
        id=cluster["Id"],
        name=cluster.get("Name", ""),
        state=status["State"],
        reason=" ".join(text for text in (change.get("Code"), change.get("Message")) if text),
        release=cluster.get("ReleaseLabel", ""),
        created_at=times.get("CreationDateTime"),
        ready_at=times.get("ReadyDateTime"),
        ended_at=times.get("EndDateTime"),
        # EMR lists the last step first, and does not promise it.
        steps=tuple(sorted(shown, key=lambda step: step.started_at or datetime.max.replace(tzinfo=UTC))),
        console=None if settings.profile == "local" else _console(cluster["Id"], settings.region),
    )


def _step(step: JsonObject, now: datetime) -> Step:
    status = step["Status"]
    times = status.get("Timeline", {})
    start, end = times.get("StartDateTime"), times.get("EndDateTime")
    failure = status.get("FailureDetails") or {}
    return Step(
        id=step["Id"],
        name=step.get("Name", ""),
        state=status["State"],
        started_at=start,
        seconds=((end or now) - start).total_seconds() if start else None,
        reason=" ".join(text for name in ("Reason", "Message") if (text := failure.get(name))),
    )


def _console(cluster_id: str, region: str) -> str:
    return f"https://{region}.console.aws.amazon.com/emr/home?region={region}#/clusterDetails/{cluster_id}"
