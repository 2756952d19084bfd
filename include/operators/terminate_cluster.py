"""The operator that terminates the run's clusters."""

from __future__ import annotations

import time
from typing import Any

from airflow.providers.amazon.aws.operators.emr import EmrTerminateJobFlowOperator
from airflow.sdk import BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException
from botocore.exceptions import BotoCoreError, ClientError

from include.aws.retries import SINGLE_ATTEMPT
from include.emr.client import Emr, open_emr, wait_for_result
from include.emr.identity import RunIdentity
from include.operators.links import ClusterLink
from include.operators.shared import SENDING
from include.records import CLUSTER_ID
from include.settings.deployment import read_airflow_settings

TERMINATION_SECONDS = 60.0
"""How long to wait until EMR describes the clusters as terminating: TerminateJobFlows is asynchronous (EMR API)."""

POLL_SECONDS = 3.0


class TerminateCluster(EmrTerminateJobFlowOperator):
    """Cancel the steps of every live cluster of the run, then terminate the clusters.

    Clusters are found by name and confirmed by tags, because a create task that failed after RunJobFlow has returned no
    id. Their ids are used if EMR does not answer ListClusters. The provider's operator describes the cluster first, and
    terminates nothing if that fails.

    If a task was interrupted while it sent RunJobFlow (its run was marked failed, or its worker was lost), a cluster
    may still appear after this task has started; this task then waits for it.

    Parameters
    ----------
    run : Run
        The run, as ``open_run`` returned it.
    creators : tuple of str
        Ids of the tasks that may create a cluster.
    """

    template_fields = (*EmrTerminateJobFlowOperator.template_fields, "run")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (ClusterLink(),)  # type: ignore[assignment]

    def __init__(self, *, run: Any, creators: tuple[str, ...], **kwargs: Any) -> None:
        ids = " ".join(f"{{{{ ti.xcom_pull('{creator}', key='{CLUSTER_ID}') or '' }}}}" for creator in creators)
        super().__init__(job_flow_id=ids, botocore_config=SINGLE_ATTEMPT, **kwargs)
        self.run = run
        self.creators = creators

    def execute(self, context: Context) -> None:
        """Terminate the run's clusters, and check that none is left.

        Raises
        ------
        EndpointRefusedError
            If the client resolves to an address that the profile does not allow.
        AirflowException
            If EMR refuses to terminate a cluster; the others are terminated. If a cluster is still live afterwards.
        """
        emr, identity = open_emr(self.hook, read_airflow_settings()), RunIdentity.from_run(self.run)
        if self._is_cluster_pending(context):
            self.log.info("A RunJobFlow request was interrupted: searching for a cluster named %s", identity.name)
            live = wait_for_result(lambda: self._live_clusters(emr, identity) or None) or []
        else:
            live = self._live_clusters(emr, identity)
        if not live:
            self.log.info("No live cluster named %s: nothing to terminate", identity.name)
            return
        self.log.info("Terminating %s (%s)", ", ".join(live), identity.name)
        refusals = []
        for cluster_id in live:
            self._cancel_steps(emr, cluster_id)
            try:
                emr.terminate(cluster_id)
            except (BotoCoreError, ClientError) as error:
                refusals.append(f"{cluster_id}: {error}")
        if refusals:
            raise AirflowException(
                f"{len(refusals)} of {len(live)} clusters not terminated ({identity.name}): {'; '.join(refusals)}; "
                "check whether termination protection is on, and whether Airflow's role may call TerminateJobFlows"
            )
        left = self._wait_for_termination(emr, identity)
        if left:
            raise AirflowException(
                f"{', '.join(left)} ({identity.name}) still live {TERMINATION_SECONDS:g} s after TerminateJobFlows; "
                "check whether termination protection is on"
            )

    def _live_clusters(self, emr: Emr, identity: RunIdentity) -> list[str]:
        try:
            return [cluster["Id"] for cluster in emr.clusters(identity, live=True)]
        except (BotoCoreError, ClientError) as error:
            known = sorted(set(self.job_flow_id.split()))
            if not known:
                raise
            self.log.warning("The clusters cannot be listed (%s); terminating %s by id", error, ", ".join(known))
            return known

    def _cancel_steps(self, emr: Emr, cluster_id: str) -> None:
        """Cancel the steps, so that they stop writing while the cluster terminates, which takes minutes."""
        try:
            cancelled = emr.cancel_steps(cluster_id)
        except (BotoCoreError, ClientError) as error:
            self.log.warning("The steps of %s cannot be cancelled; they stop with the cluster: %s", cluster_id, error)
            return
        if cancelled:
            self.log.info("Cancelled %s", ", ".join(cancelled))

    def _wait_for_termination(self, emr: Emr, identity: RunIdentity) -> list[str]:
        """Wait until no cluster of the run is live; return those that still are after :data:`TERMINATION_SECONDS`."""
        deadline = time.monotonic() + TERMINATION_SECONDS
        while True:
            left = [str(cluster["Id"]) for cluster in emr.clusters(identity, live=True)]
            if not left or time.monotonic() >= deadline:
                return left
            time.sleep(POLL_SECONDS)

    def _is_cluster_pending(self, context: Context) -> bool:
        ti = context["ti"]
        return any(ti.xcom_pull(task_ids=creator, key=SENDING) for creator in self.creators)
