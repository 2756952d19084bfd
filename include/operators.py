"""The provider's EMR operators, with what this DAG needs of them beyond that.

All of them check before the first call that the client has resolved to an address that the profile allows, and make
each API call once only: botocore by itself repeats RunJobFlow and AddJobFlowSteps when the answer is late, and neither
has an idempotency token. A repeated *task* attaches to what its first try has made. Links to the console are ornaments:
a task never fails for one.
"""

from __future__ import annotations

import logging
import time
import zlib
from typing import Any, cast

from airflow.providers.amazon.aws.exceptions import S3HookUriParseFailure
from airflow.providers.amazon.aws.hooks.emr import EmrHook
from airflow.providers.amazon.aws.links.emr import EmrClusterLink, EmrLogsLink, get_log_uri
from airflow.providers.amazon.aws.operators.emr import (
    EmrAddStepsOperator,
    EmrCreateJobFlowOperator,
    EmrTerminateJobFlowOperator,
)
from airflow.providers.amazon.aws.sensors.emr import EmrStepSensor
from airflow.sdk import BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from include import autopsy
from include.endpoints import check_endpoint
from include.links import StepLogsLink
from include.settings import read_airflow_settings

SINGLE_ATTEMPT = {"retries": {"total_max_attempts": 1}}
LIVE_CLUSTER_STATES = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
ATTACHABLE_STEP_STATES = ["PENDING", "RUNNING", "COMPLETED"]

SETTLED = "settled"
"""XCom key of a create that has failed for good: no request of it is under way."""

LATE_CLUSTER_SECONDS = 60.0
"""How long to look for the cluster of a create that was cut off: a worker needs up to ten seconds to end a task that
was marked failed, and botocore itself would wait sixty for the answer."""

LATE_CLUSTER_LOOK_SECONDS = 3.0


def check_hook(hook: EmrHook) -> None:
    """Refuse to work when the hook's client would call an address that the profile does not allow.

    Raises
    ------
    EndpointRefusedError
        As :func:`include.endpoints.check_endpoint`.
    """
    check_endpoint("emr", str(hook.conn.meta.endpoint_url), read_airflow_settings())


def find_live_clusters(hook: EmrHook, name: str) -> list[str]:
    """Return the ids of the clusters of this name that have not ended, the newest first."""
    pages = hook.conn.get_paginator("list_clusters").paginate(ClusterStates=LIVE_CLUSTER_STATES)
    return [cluster["Id"] for page in pages for cluster in page["Clusters"] if cluster["Name"] == name]


def persist_links(operator: Any, context: Context, cluster_id: str) -> None:
    """Keep what the links to the cluster and to its logs need; what cannot be had is left out."""
    common = {
        "context": context,
        "operator": operator,
        "region_name": operator.hook.conn_region_name,
        "aws_partition": operator.hook.conn_partition,
        "job_flow_id": cluster_id,
    }
    EmrClusterLink.persist(**common)
    try:
        log_uri = get_log_uri(emr_client=operator.hook.conn, job_flow_id=cluster_id)
    except (BotoCoreError, ClientError, S3HookUriParseFailure, LookupError, ValueError) as error:
        operator.log.debug("No link to the logs: %s", error)
    else:
        EmrLogsLink.persist(**common, log_uri=log_uri)


class CreateCluster(EmrCreateJobFlowOperator):
    """Create the run's cluster, or attach to the live one that an earlier try has made.

    The cluster is found by its name, which carries the run's slug.
    """

    def __init__(self, **kwargs: Any) -> None:
        # emr_conn_id: the stock connection would be merged into the request, with its old release and roles.
        super().__init__(emr_conn_id=None, botocore_config=SINGLE_ATTEMPT, wait_for_completion=False, **kwargs)

    def execute(self, context: Context) -> str:
        """Return the cluster's id.

        Raises
        ------
        EndpointRefusedError
            When the client resolves to an address that the profile does not allow.
        """
        try:
            cluster_id = self._attach_or_create()
        except Exception as error:
            if not isinstance(error, HTTPClientError):  # without an answer, a cluster may yet come of it
                context["ti"].xcom_push(key=SETTLED, value=True)
            raise
        persist_links(self, context, cluster_id)
        return cluster_id

    def _attach_or_create(self) -> str:
        check_hook(self.hook)
        request = cast("dict[str, Any]", self.job_flow_overrides)
        live = find_live_clusters(self.hook, request["Name"])
        if live:
            cluster_id = live[0]
            self.log.info("Attaching to the live cluster %s of this run (%s)", cluster_id, request["Name"])
        else:
            cluster_id = str(self.hook.create_job_flow(request)["JobFlowId"])
            self.log.info("Created the cluster %s (%s)", cluster_id, request["Name"])
        self._job_flow_id = cluster_id  # the provider's on_kill ends it
        return cluster_id


class AddSteps(EmrAddStepsOperator):
    """Add the steps, or attach to those of the same names that an earlier try has added."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(botocore_config=SINGLE_ATTEMPT, **kwargs)

    def execute(self, context: Context) -> list[str]:
        """Return the steps' ids, in the order of ``steps``.

        Raises
        ------
        EndpointRefusedError
            When the client resolves to an address that the profile does not allow.
        AirflowFailException
            When the cluster has ended; the message says why.
        """
        check_hook(self.hook)
        cluster_id, steps = str(self.job_flow_id), cast("list[dict[str, Any]]", self.steps)
        context["ti"].xcom_push(key="job_flow_id", value=cluster_id)
        earlier = self._steps_by_name(cluster_id)
        known = {step["Name"]: earlier[step["Name"]] for step in steps if step["Name"] in earlier}
        if known:
            self.log.info("Attaching to the steps %s of an earlier try", known)
        missing = [step for step in steps if step["Name"] not in known]
        if missing:
            added = self._add(cluster_id, missing)
            known |= dict(zip([step["Name"] for step in missing], added, strict=True))
        ids = [known[step["Name"]] for step in steps]
        persist_links(self, context, cluster_id)
        return ids

    def _add(self, cluster_id: str, steps: list[dict[str, Any]]) -> list[str]:
        try:
            return self.hook.add_job_flow_steps(job_flow_id=cluster_id, steps=steps)
        except ClientError as error:
            cluster = self.hook.conn.describe_cluster(ClusterId=cluster_id)["Cluster"]
            if cluster["Status"]["State"] in LIVE_CLUSTER_STATES:
                raise
            raise AirflowFailException(f"no step can be added: {autopsy.describe_cluster(cluster)}") from error

    def _steps_by_name(self, cluster_id: str) -> dict[str, str]:
        pages = self.hook.conn.get_paginator("list_steps").paginate(
            ClusterId=cluster_id, StepStates=ATTACHABLE_STEP_STATES
        )
        return {step["Name"]: step["Id"] for page in pages for step in page["Steps"]}


class StepSensor(EmrStepSensor):
    """Wait for a step; when it fails, tell why, and do not try again: a failed step stays failed.

    Errors of the API itself are ordinary failures, which Airflow's retries repeat.
    """

    operator_extra_links: tuple[BaseOperatorLink, ...] = (*EmrStepSensor.operator_extra_links, StepLogsLink())  # type: ignore[assignment]

    def __init__(self, **kwargs: Any) -> None:
        # A deployment's default_deferrable would replace poke, and give up after 60 looks.
        super().__init__(deferrable=False, **kwargs)

    def execute(self, context: Context) -> None:
        """Wait for the step.

        Raises
        ------
        EndpointRefusedError
            When the client resolves to an address that the profile does not allow.
        AirflowFailException
            When the step failed or was cancelled; the message says why.
        """
        check_hook(self.hook)
        super().execute(context)

    def poke(self, context: Context) -> bool:
        """Look at the step once."""
        try:
            completed = bool(super().poke(context))
        except AirflowException as error:
            raise AirflowFailException(self._explain()) from error
        if completed:
            self._log_tails(self._describe_cluster(), logging.INFO, autopsy.STREAMS[-1:])
        return completed

    def get_emr_response(self, context: Context) -> dict[str, Any]:
        """Return EMR's description of the step."""
        response: dict[str, Any] = self.hook.conn.describe_step(ClusterId=self.job_flow_id, StepId=self.step_id)
        persist_links(self, context, self.job_flow_id)
        return response

    def _explain(self) -> str:
        step = self.hook.conn.describe_step(ClusterId=self.job_flow_id, StepId=self.step_id)["Step"]
        cluster = self._describe_cluster()
        self._log_tails(cluster, logging.ERROR, autopsy.STREAMS)
        return autopsy.describe_failure(step, cluster)

    def _describe_cluster(self) -> dict[str, Any] | None:
        try:
            cluster: dict[str, Any] = self.hook.conn.describe_cluster(ClusterId=self.job_flow_id)["Cluster"]
        except (BotoCoreError, ClientError) as error:
            self.log.warning("The cluster cannot be described: %s", error)
            return None
        return cluster

    def _log_tails(self, cluster: dict[str, Any] | None, level: int, streams: tuple[str, ...]) -> None:
        if cluster and cluster.get("LogUri"):
            for stream in streams:
                self._log_tail(autopsy.step_log_uri(cluster["LogUri"], self.job_flow_id, self.step_id, stream), level)

    def _log_tail(self, uri: str, level: int) -> None:
        try:
            tail = autopsy.read_log_tail(uri, self.aws_conn_id)
        except (OSError, EOFError, ValueError, zlib.error, BotoCoreError) as error:
            self.log.warning("The step's log %s cannot be read: %s", uri, error)
            return
        if tail is None:
            self.log.info("The step's log is not at %s yet; EMR writes it some minutes after the step", uri)
        elif tail:
            self.log.log(level, "The end of %s:\n%s", uri, tail)


class TerminateCluster(EmrTerminateJobFlowOperator):
    """End every live cluster of the run, found by id and by name.

    By name too, since a create that failed after RunJobFlow has returned no id. TerminateJobFlows is the first call
    that can matter: the provider's operator describes the cluster before, and ends nothing when that fails.

    A create that was cut off (the run was marked failed, or its worker was lost) may have a request under way, and this
    task starts at once: then it looks for the cluster for some time.
    """

    template_fields = (*EmrTerminateJobFlowOperator.template_fields, "cluster_name")

    def __init__(
        self, *, cluster_name: str, job_flow_id: str, create_task_id: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(job_flow_id=job_flow_id, **kwargs)
        self.cluster_name = cluster_name
        self.create_task_id = create_task_id

    def execute(self, context: Context) -> None:
        """End the run's clusters, and see that none is left.

        Raises
        ------
        EndpointRefusedError
            When the client resolves to an address that the profile does not allow.
        AirflowException
            When a cluster is still live afterwards.
        """
        check_hook(self.hook)
        live = self._find_clusters()
        if not live and self._may_still_come(context):
            live = self._await_cluster()
        if not live:
            self.log.info("No live cluster named %s: nothing to end", self.cluster_name)
            return
        self.log.info("Ending %s (%s)", ", ".join(live), self.cluster_name)
        self.hook.conn.terminate_job_flows(JobFlowIds=live)
        persist_links(self, context, live[0])
        left = find_live_clusters(self.hook, self.cluster_name)
        if left:
            raise AirflowException(
                f"{', '.join(left)} ({self.cluster_name}) still live after TerminateJobFlows; "
                "look whether termination protection is on"
            )

    def _find_clusters(self) -> list[str]:
        try:
            return find_live_clusters(self.hook, self.cluster_name)
        except (BotoCoreError, ClientError) as error:
            if not self.job_flow_id:
                raise
            self.log.warning("ListClusters failed (%s); ending %s by its id", error, self.job_flow_id)
            return [self.job_flow_id]

    def _may_still_come(self, context: Context) -> bool:
        if self.job_flow_id or self.create_task_id is None:
            return False
        ti = context["ti"]
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[self.create_task_id], run_ids=[ti.run_id])
        failed = states.get(ti.run_id, {}).get(self.create_task_id) == "failed"
        return failed and not ti.xcom_pull(task_ids=self.create_task_id, key=SETTLED)

    def _await_cluster(self) -> list[str]:
        self.log.info(
            "%s was cut off: looking for %s for %g s, should its request come through",
            self.create_task_id,
            self.cluster_name,
            LATE_CLUSTER_SECONDS,
        )
        deadline = time.monotonic() + LATE_CLUSTER_SECONDS
        live: list[str] = []
        while not live and time.monotonic() < deadline:
            time.sleep(LATE_CLUSTER_LOOK_SECONDS)
            live = self._find_clusters()
        return live
