"""The clusters and steps of a run, in EMR: found, made and ended so that none is there twice and none is left.

RunJobFlow has no idempotency token and ListClusters tells no tags, so a run's cluster is looked for by its *name*,
which carries the run's slug, and is taken for the run's when DescribeCluster shows the run's tags: two Airflows in one
account may well have runs of the same id. A cluster also carries the *round* in which it was made. A round begins with
``open_run``; Airflow repeats that when a person clears any task that uses the cluster. So a cluster of an earlier
round that has ended is replaced by one new cluster, and one of this round is not: what ended it would only end the
next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from airflow.providers.amazon.aws.hooks.emr import EmrHook
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include.autopsy.examination import describe_cluster
from include.aws.endpoints import check_endpoint
from include.aws.retries import SINGLE_ATTEMPT, RetryPolicy, is_outcome_unknown, pause_before_retry
from include.cluster.request import cluster_name
from include.cluster.tags import LAKE_TAG, ROUND_TAG, RUN_TAG, encode_tag
from include.settings.deployment import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

LIVE_CLUSTER_STATES = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
LIVE_STEP_STATES = ("PENDING", "RUNNING")
ATTACHABLE_STEP_STATES = (*LIVE_STEP_STATES, "COMPLETED")

LISTING_SLACK = timedelta(days=1)
"""A run's clusters are younger than the run; a day covers clocks that differ."""

APPEARANCE_SECONDS = 30.0
"""How long to look for the cluster of a RunJobFlow that was not answered before it is sent again: what EMR has accepted
it also lists, if not at once."""

LOOK_SECONDS = 3.0


class ClusterEndedError(RuntimeError):
    """The run's cluster of this round has ended."""

    def __init__(self, cluster: dict[str, Any]) -> None:
        self.cluster = cluster
        super().__init__(f"the cluster has ended: {describe_cluster(cluster)}")


@dataclass(frozen=True)
class Identity:
    """What makes a cluster a run's.

    Parameters
    ----------
    slug, lake : str
        The run's slug, and the root of the lake that it works on.
    run_after : datetime
        No cluster of the run is older.
    round : str
        The round of the run that is under way.
    """

    slug: str
    lake: str
    run_after: datetime
    round: str

    @classmethod
    def of(cls, run: dict[str, Any]) -> Identity:
        """Take it from what ``open_run`` returned."""
        return cls(run["slug"], run["lake"], datetime.fromisoformat(run["run_after"]), run["round"])

    @property
    def name(self) -> str:
        """The cluster's name."""
        return cluster_name(self.slug)

    def owns(self, cluster: dict[str, Any]) -> bool:
        """Whether a cluster, as DescribeCluster tells of it, is the run's."""
        tags = tags_of(cluster)
        return tags.get(RUN_TAG) == self.slug and tags.get(LAKE_TAG) == encode_tag(self.lake)

    def sign(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a RunJobFlow request whose cluster will be of this round."""
        return request | {"Tags": [*request["Tags"], {"Key": ROUND_TAG, "Value": self.round}]}


def tags_of(cluster: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a cluster, as DescribeCluster tells of it."""
    return {tag["Key"]: tag.get("Value", "") for tag in cluster.get("Tags", [])}


def is_live(cluster: dict[str, Any]) -> bool:
    """Whether a cluster has neither ended nor begun to."""
    return cluster["Status"]["State"] in LIVE_CLUSTER_STATES


def make_hook(settings: Settings) -> EmrHook:
    """Return the hook of a task that is no EMR operator."""
    return EmrHook(
        emr_conn_id=None,
        aws_conn_id=settings.aws_conn_id,
        region_name=settings.region,
        config=Config(**SINGLE_ATTEMPT),
    )


def open_emr(hook: EmrHook, settings: Settings) -> Emr:
    """Return EMR as a hook with a connection of its own reaches it.

    Raises
    ------
    EndpointRefusedError
        When the client would call an address that the profile does not allow.
    """
    check_endpoint("emr", str(hook.conn.meta.endpoint_url), settings)
    return Emr(hook.conn, RetryPolicy(settings.api_patience_seconds, settings.retry_delay_seconds))


@dataclass(frozen=True)
class Emr:
    """EMR's API, with retries.

    Parameters
    ----------
    client : botocore client
        One that sends each request once.
    retry_policy : RetryPolicy
        How long to retry while EMR throttles or fails.
    """

    client: Any
    retry_policy: RetryPolicy

    def call(self, operation: str, **request: Any) -> dict[str, Any]:
        """Make a request that may be repeated: one that only asks, or that may be done twice."""
        answer: dict[str, Any] = self.retry_policy.call(lambda: getattr(self.client, operation)(**request))
        return answer

    def all(self, operation: str, key: str, **request: Any) -> list[dict[str, Any]]:
        """Return the items of all pages of a List operation."""
        items: list[dict[str, Any]] = []
        marker: dict[str, str] = {}
        while True:
            page = self.call(operation, **request, **marker)
            items += page[key]
            if not page.get("Marker"):
                return items
            marker = {"Marker": page["Marker"]}

    def describe(self, cluster_id: str) -> dict[str, Any]:
        """Return ``Cluster`` of DescribeCluster."""
        cluster: dict[str, Any] = self.call("describe_cluster", ClusterId=cluster_id)["Cluster"]
        return cluster

    def clusters(self, identity: Identity, *, live: bool) -> list[dict[str, Any]]:
        """Return the run's clusters, as DescribeCluster tells of them, the newest first: the live ones, or all."""
        states = {"ClusterStates": list(LIVE_CLUSTER_STATES)} if live else {}
        since = identity.run_after - LISTING_SLACK
        listed = self.all("list_clusters", "Clusters", CreatedAfter=since, **states)
        named = [self.describe(cluster["Id"]) for cluster in listed if cluster["Name"] == identity.name]
        return [cluster for cluster in named if identity.owns(cluster) and (is_live(cluster) or not live)]

    def join(self, identity: Identity, request: dict[str, Any], sending: Callable[[bool], None]) -> dict[str, Any]:
        """Return the run's cluster: the live one, or a new one when this round has had none.

        Parameters
        ----------
        identity : Identity
            The run.
        request : dict
            The arguments of RunJobFlow.
        sending : callable
            Called with True before RunJobFlow is sent, and with False once it is known what came of it.

        Raises
        ------
        ClusterEndedError
            When the cluster of this round has ended.
        botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError
            If EMR refuses the request, or the retry timeout has passed.
        """
        found = self._find(identity)
        if found is not None:
            log.info("Attaching to the cluster of this run: %s", describe_cluster(found))
            return found
        pauses = self.retry_policy.pauses()
        while True:
            sending(True)
            try:
                cluster_id = self.client.run_job_flow(**identity.sign(request))["JobFlowId"]
            except (ClientError, BotoCoreError) as error:
                unknown = is_outcome_unknown(error)
                found = self._appears(lambda: self._find(identity)) if unknown else None
                if found is not None:
                    sending(False)
                    log.warning("RunJobFlow failed (%s), yet it has made %s", error, found["Id"])
                    return found
                if not pause_before_retry(error, pauses):
                    sending(unknown)
                    raise
            else:
                sending(False)
                log.info("Created the cluster %s (%s)", cluster_id, identity.name)
                return self.describe(cluster_id)

    def _find(self, identity: Identity) -> dict[str, Any] | None:
        clusters = self.clusters(identity, live=False)
        for cluster in clusters:
            if is_live(cluster):
                return cluster
        for cluster in clusters:
            if tags_of(cluster).get(ROUND_TAG) == identity.round:
                raise ClusterEndedError(cluster)
        return None

    def _appears(self, look: Callable[[], T | None]) -> T | None:
        """Look for what an unanswered request may have made; None when it has not appeared."""
        deadline = time.monotonic() + APPEARANCE_SECONDS
        while True:
            found = look()
            if found is not None or time.monotonic() >= deadline:
                return found
            time.sleep(LOOK_SECONDS)

    def join_steps(self, cluster_id: str, steps: list[dict[str, Any]]) -> list[str]:
        """Return the ids of the cluster's steps of these names, in their order; those that are not there are added.

        Raises
        ------
        ClusterEndedError
            When the cluster has ended.
        botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError
            If EMR refuses the request, or the retry timeout has passed.
        """
        pauses = self.retry_policy.pauses()
        while True:
            known = self.steps(cluster_id, ATTACHABLE_STEP_STATES)
            missing = [step for step in steps if step["Name"] not in known]
            if len(missing) < len(steps):
                log.info("Steps of this run that are there: %s", known)
            if not missing:
                return [known[step["Name"]] for step in steps]
            try:
                added = self.client.add_job_flow_steps(JobFlowId=cluster_id, Steps=missing)["StepIds"]
            except (ClientError, BotoCoreError) as error:
                if is_outcome_unknown(error) and self._await_steps(cluster_id, {step["Name"] for step in missing}):
                    continue
                if not pause_before_retry(error, pauses):
                    cluster = self.describe(cluster_id)
                    if not is_live(cluster):
                        raise ClusterEndedError(cluster) from error
                    raise
            else:
                known |= dict(zip([step["Name"] for step in missing], added, strict=True))
                return [known[step["Name"]] for step in steps]

    def _await_steps(self, cluster_id: str, names: set[str]) -> bool:
        """Look for steps whose AddJobFlowSteps was not answered; whether they have appeared."""
        return self._appears(lambda: names <= set(self.steps(cluster_id, ATTACHABLE_STEP_STATES)) or None) or False

    def steps(self, cluster_id: str, states: tuple[str, ...]) -> dict[str, str]:
        """Return the ids of a cluster's steps that are in these states, by name."""
        listed = self.all("list_steps", "Steps", ClusterId=cluster_id, StepStates=list(states))
        return {step["Name"]: step["Id"] for step in listed}

    def cancel_steps(self, cluster_id: str) -> list[str]:
        """Cancel what a cluster runs and what waits in it; return the ids of these steps."""
        ids = list(self.steps(cluster_id, LIVE_STEP_STATES).values())
        if ids:
            self.call("cancel_steps", ClusterId=cluster_id, StepIds=ids, StepCancellationOption="TERMINATE_PROCESS")
        return ids

    def terminate(self, cluster_ids: list[str]) -> None:
        """End clusters; doing it twice does no harm."""
        self.call("terminate_job_flows", JobFlowIds=cluster_ids)
