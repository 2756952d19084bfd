"""The clusters and steps of a run in EMR: find, create and terminate them without duplicates or leaks.

RunJobFlow and AddJobFlowSteps have no idempotency token. Before such a request is sent, and again after one that was
not answered, this module searches for an existing cluster (:mod:`include.emr.identity`) or step (by name and command).
If the answer is not known, it searches for a minute: EMR may list a new cluster late.
A terminated cluster of an earlier round is replaced by one new cluster. A terminated cluster of the current round is
not replaced: whatever terminated it would probably terminate the next one too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from airflow.providers.amazon.aws.hooks.emr import EmrHook
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from include.autopsy.examination import describe_cluster
from include.aws.endpoints import check_endpoint
from include.aws.retries import SINGLE_ATTEMPT, RetryPolicy, is_outcome_unknown, pause_before_retry
from include.emr.identity import LIVE_CLUSTER_STATES, Cluster, RunIdentity, created_at, is_live
from include.records import ClusterRequest, JsonObject, StepRequest
from include.settings.deployment import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")

LIVE_STEP_STATES = ("PENDING", "RUNNING")
REUSABLE_STEP_STATES = (*LIVE_STEP_STATES, "COMPLETED")

CLOCK_TOLERANCE = timedelta(days=1)
"""A run's clusters are younger than the run; one day allows for clocks that differ."""

APPEARANCE_SECONDS = 60.0
"""How long to search for the result of a request whose answer is not known: EMR may list a new cluster with a delay. A
worker needs up to ten seconds to stop a task that was marked failed, and botocore waits sixty seconds for an answer."""

POLL_SECONDS = 3.0


class ClusterEndedError(RuntimeError):
    """The run's cluster of the current round has terminated."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        super().__init__(f"the cluster has ended: {describe_cluster(cluster)}")


def create_hook(settings: Settings) -> EmrHook:
    """Return an EMR hook for a task that is not an EMR operator."""
    return EmrHook(
        emr_conn_id=None,
        aws_conn_id=settings.aws_conn_id,
        region_name=settings.region,
        config=Config(**SINGLE_ATTEMPT),
    )


def open_emr(hook: EmrHook, settings: Settings) -> Emr:
    """Return the EMR API that a hook connects to.

    Raises
    ------
    EndpointRefusedError
        If the client resolves to an address that the profile does not allow.
    """
    check_endpoint("emr", str(hook.conn.meta.endpoint_url), settings)
    return Emr(hook.conn, RetryPolicy(settings.api_patience_seconds, settings.retry_delay_seconds))


@dataclass(frozen=True)
class Emr:
    """The EMR API with retries that never create a cluster or a step twice.

    Parameters
    ----------
    client : botocore client
        A client that sends each request once.
    retry_policy : RetryPolicy
        How long to retry while EMR throttles or fails.
    """

    client: Any
    retry_policy: RetryPolicy

    def call(self, operation: str, **request: Any) -> JsonObject:
        """Send a request that is safe to repeat."""
        answer: JsonObject = self.retry_policy.call(lambda: getattr(self.client, operation)(**request))
        return answer

    def list_all(self, operation: str, key: str, **request: Any) -> list[JsonObject]:
        """Return the items from all pages of a List operation; ``key`` names their list in the answer."""
        items: list[JsonObject] = []
        marker: dict[str, str] = {}
        while True:
            page = self.call(operation, **request, **marker)
            items += page[key]
            if not page.get("Marker"):
                return items
            marker = {"Marker": page["Marker"]}

    def describe(self, cluster_id: str) -> Cluster:
        """Return ``Cluster`` from DescribeCluster."""
        cluster: Cluster = self.call("describe_cluster", ClusterId=cluster_id)["Cluster"]
        return cluster

    def clusters(self, identity: RunIdentity, *, live: bool) -> list[Cluster]:
        """Return the run's clusters as DescribeCluster returns them, newest first: only live ones, or all."""
        states = {"ClusterStates": list(LIVE_CLUSTER_STATES)} if live else {}
        since = identity.run_after - CLOCK_TOLERANCE
        listed = self.list_all("list_clusters", "Clusters", CreatedAfter=since, **states)
        candidates = [self.describe(cluster["Id"]) for cluster in listed if cluster["Name"] == identity.name]
        found = [cluster for cluster in candidates if identity.owns(cluster) and (is_live(cluster) or not live)]
        return sorted(found, key=created_at, reverse=True)

    def find_or_create_cluster(
        self,
        identity: RunIdentity,
        request: ClusterRequest,
        report_pending: Callable[[bool], None],
        *,
        is_retry: bool,
    ) -> Cluster:
        """Return the run's live cluster; create one if the current round has had none.

        Parameters
        ----------
        identity : RunIdentity
            The run.
        request : dict
            The arguments of RunJobFlow.
        report_pending : callable
            Called with True before RunJobFlow is sent, and with False once its outcome is known.
        is_retry : bool
            Whether an earlier attempt may have created a cluster that EMR does not list yet. Then nothing is created
            before a search of :data:`APPEARANCE_SECONDS`.

        Raises
        ------
        ClusterEndedError
            If the cluster of the current round has terminated.
        botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError
            If EMR rejects the request, or the retry timeout has passed.
        """
        cluster = self._await_cluster(identity, report_pending) if is_retry else self._find_cluster(identity)
        if cluster is not None:
            log.info("Attaching to the cluster of this run: %s", describe_cluster(cluster))
            return self.attach(identity, cluster)
        pauses = self.retry_policy.pauses()
        while True:
            report_pending(True)
            try:
                cluster_id = self.client.run_job_flow(**identity.with_round(request))["JobFlowId"]
            except (ClientError, BotoCoreError) as error:
                unanswered = is_outcome_unknown(error)
                cluster = wait_for_result(lambda: self._find_cluster(identity)) if unanswered else None
                if cluster is not None:
                    report_pending(False)
                    log.warning("RunJobFlow failed (%s) but created %s", error, cluster["Id"])
                    return cluster
                if not pause_before_retry(error, pauses):
                    report_pending(unanswered)
                    raise
            else:
                report_pending(False)
                log.info("Created the cluster %s (%s)", cluster_id, identity.name)
                return self.describe(cluster_id)

    def attach(self, identity: RunIdentity, cluster: Cluster) -> Cluster:
        """Give a live cluster the tag of the current round, and return it.

        If it ends, it then counts as the cluster of this round: no other cluster replaces it.
        """
        if identity.is_of_this_round(cluster):
            return cluster
        self.call("add_tags", ResourceId=cluster["Id"], Tags=[identity.round_tag])
        log.info("The cluster %s has the tag of this round: %s", cluster["Id"], identity.round)
        return self.describe(cluster["Id"])

    def _await_cluster(self, identity: RunIdentity, report_pending: Callable[[bool], None]) -> Cluster | None:
        """Search for the cluster that an earlier attempt may have created just before it ended."""
        log.info("This is not the first attempt: searching up to %g s for %s", APPEARANCE_SECONDS, identity.name)
        report_pending(True)
        try:
            cluster = wait_for_result(lambda: self._find_cluster(identity))
        except ClusterEndedError:
            report_pending(False)
            raise
        report_pending(False)
        return cluster

    def _find_cluster(self, identity: RunIdentity) -> Cluster | None:
        clusters = self.clusters(identity, live=False)
        for cluster in clusters:
            if is_live(cluster):
                return cluster
        for cluster in clusters:
            if identity.is_of_this_round(cluster):
                raise ClusterEndedError(cluster)
        return None

    def find_or_add_steps(self, cluster_id: str, steps: list[StepRequest]) -> list[str]:
        """Return the ids of these steps on a cluster, in their order; add those that the cluster does not have.

        A step is reused if its name and its command are those of the request, unless it had failed before this call. A
        live step that has the name but another command is from an earlier plan of the run, for example with other code:
        it is cancelled.

        Raises
        ------
        ClusterEndedError
            If the cluster has terminated.
        botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError
            If EMR rejects the request, or the retry timeout has passed.
        """
        pauses = self.retry_policy.pauses()
        listed = self.steps(cluster_id)
        failed = {step["Id"] for step in listed if step["Status"]["State"] not in REUSABLE_STEP_STATES}
        while True:
            existing = _without(listed, failed)
            known = _find_steps(existing, steps)
            self._cancel_outdated(cluster_id, existing, steps)
            missing = [step for step in steps if step["Name"] not in known]
            if known:
                log.info("Existing steps of the cluster: %s", known)
            if not missing:
                return [known[step["Name"]] for step in steps]
            try:
                added = self.client.add_job_flow_steps(JobFlowId=cluster_id, Steps=missing)["StepIds"]
            except (ClientError, BotoCoreError) as error:
                appeared = is_outcome_unknown(error) and self._wait_for_steps(cluster_id, missing, failed)
                if not appeared and not pause_before_retry(error, pauses):
                    cluster = self.describe(cluster_id)
                    if not is_live(cluster):
                        raise ClusterEndedError(cluster) from error
                    raise
                listed = self.steps(cluster_id)
            else:
                known |= dict(zip([step["Name"] for step in missing], added, strict=True))
                return [known[step["Name"]] for step in steps]

    def _cancel_outdated(self, cluster_id: str, existing: list[JsonObject], requests: list[StepRequest]) -> None:
        """Cancel the live steps that have the name of a request and another command."""
        commands = _commands(requests)
        outdated = [
            step["Id"]
            for step in existing
            if step["Status"]["State"] in LIVE_STEP_STATES
            and step["Name"] in commands
            and commands[step["Name"]] != _command(step["Config"])
        ]
        if outdated:
            log.warning("Cancelling steps that run another command than this plan: %s", ", ".join(outdated))
            self._cancel(cluster_id, outdated)

    def _wait_for_steps(self, cluster_id: str, requests: list[StepRequest], failed: set[str]) -> bool:
        """Whether the steps of an unanswered AddJobFlowSteps have appeared; they may have ended meanwhile."""

        def appeared() -> bool | None:
            found = _find_steps(_without(self.steps(cluster_id), failed), requests)
            return len(found) == len(requests) or None

        return wait_for_result(appeared) or False

    def steps(self, cluster_id: str, states: tuple[str, ...] = ()) -> list[JsonObject]:
        """Return a cluster's steps in these states (by default, in any), in the order of their creation."""
        wanted = {"StepStates": list(states)} if states else {}
        listed = self.list_all("list_steps", "Steps", ClusterId=cluster_id, **wanted)
        return sorted(listed, key=lambda step: step["Status"]["Timeline"]["CreationDateTime"])

    def cancel_steps(self, cluster_id: str) -> list[str]:
        """Cancel a cluster's running and pending steps; return their ids."""
        ids = [step["Id"] for step in self.steps(cluster_id, LIVE_STEP_STATES)]
        if ids:
            self._cancel(cluster_id, ids)
        return ids

    def _cancel(self, cluster_id: str, ids: list[str]) -> None:
        self.call("cancel_steps", ClusterId=cluster_id, StepIds=ids, StepCancellationOption="TERMINATE_PROCESS")

    def terminate(self, cluster_id: str) -> None:
        """Terminate a cluster; repeating it is harmless.

        One request for each cluster: a refusal then concerns no other one, and a request has at most ten ids (EMR API).
        """
        self.call("terminate_job_flows", JobFlowIds=[cluster_id])


def _without(steps: list[JsonObject], ids: set[str]) -> list[JsonObject]:
    return [step for step in steps if step["Id"] not in ids]


def _find_steps(existing: list[JsonObject], requests: list[StepRequest]) -> dict[str, str]:
    """Return the ids of the steps that have the name and the command of a request, by name."""
    commands = _commands(requests)
    return {step["Name"]: step["Id"] for step in existing if commands.get(step["Name"]) == _command(step["Config"])}


def _commands(requests: list[StepRequest]) -> dict[str, tuple[str, list[str]]]:
    return {request["Name"]: _command(request["HadoopJarStep"]) for request in requests}


def _command(config: JsonObject) -> tuple[str, list[str]]:
    """Return the command of a step: of ``HadoopJarStep`` in a request, or of ``Config`` in an answer."""
    return config["Jar"], config["Args"]


def wait_for_result(find: Callable[[], T | None]) -> T | None:
    """Poll for the result of a request whose answer is not known; None after :data:`APPEARANCE_SECONDS`."""
    deadline = time.monotonic() + APPEARANCE_SECONDS
    while True:
        result = find()
        if result is not None or time.monotonic() >= deadline:
            return result
        time.sleep(POLL_SECONDS)
