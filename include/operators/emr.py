"""The provider's EMR operators, adapted to this DAG.

Before its first call, each operator checks that the client resolved to an address that the profile allows. Each
request is sent once; :mod:`include.emr.client` decides what may be repeated. A retried task attaches to the cluster or
step that its earlier try created; a cleared task replaces what has ended since, once. A missing console link never
fails a task.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from airflow.providers.amazon.aws.exceptions import S3HookUriParseFailure
from airflow.providers.amazon.aws.links.emr import EmrClusterLink, EmrLogsLink, get_log_uri
from airflow.providers.amazon.aws.operators.emr import (
    EmrAddStepsOperator,
    EmrCreateJobFlowOperator,
    EmrTerminateJobFlowOperator,
)
from airflow.providers.amazon.aws.sensors.emr import EmrStepSensor
from airflow.sdk import BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from botocore.exceptions import BotoCoreError, ClientError

from include.autopsy import examination
from include.aws.retries import SINGLE_ATTEMPT, is_transient
from include.cluster.tags import ROUND_TAG
from include.emr.client import ClusterEndedError, Emr, Identity, is_live, open_emr, tags_of
from include.operators.links import StepLogsLink
from include.residency.attestation import ResidencyError
from include.residency.inspection import inspect_cluster
from include.settings.deployment import read_airflow_settings

SENDING = "sending"
"""XCom key: true while nobody knows whether a RunJobFlow has made a cluster."""

CLUSTER_ID = "job_flow_id"
"""XCom key of the tasks that make or join a cluster: its id."""

ATTESTATION = "attestation"
"""XCom key of the tasks that add steps: what EMR has really made, and where."""

LATE_CLUSTER_SECONDS = 60.0
"""How long to look for the cluster of a RunJobFlow that was cut off: a worker needs up to ten seconds to end a task
that was marked failed, and botocore itself would wait sixty for the answer."""

LATE_CLUSTER_LOOK_SECONDS = 3.0


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


@contextmanager
def telling_why_it_ended(operator: Any) -> Iterator[None]:
    """Fail a task for good when the cluster of this round has ended, and tell why: another would end like it.

    Raises
    ------
    AirflowFailException
        With the cause, and what to do.
    """
    try:
        yield
    except ClusterEndedError as error:
        found = examination.examine_cluster(
            error.cluster, operator.aws_conn_id, read_airflow_settings().log_wait_seconds
        )
        operator.log.error("%s", examination.render(found))
        raise AirflowFailException(
            f"the cluster has ended. {examination.brief(found)}. Correct what ended it, then clear the first task that "
            "failed, with all that follows: that makes one new cluster, and keeps what completed steps have written"
        ) from error


def join_cluster(emr: Emr, run: dict[str, Any], request: Any, context: Context) -> dict[str, Any]:
    """Return the run's cluster, made when this round has none."""

    def sending(unknown: bool) -> None:
        context["ti"].xcom_push(key=SENDING, value=unknown)

    return emr.join(Identity.of(run), cast("dict[str, Any]", request), sending)


class CreateCluster(EmrCreateJobFlowOperator):
    """Create the run's cluster, or attach to the live one that an earlier try has made.

    Parameters
    ----------
    run : dict
        What ``open_run`` returned.
    """

    template_fields = (*EmrCreateJobFlowOperator.template_fields, "run")

    def __init__(self, *, run: Any, **kwargs: Any) -> None:
        # emr_conn_id: the stock connection would be merged into the request, with its old release and roles.
        super().__init__(emr_conn_id=None, botocore_config=SINGLE_ATTEMPT, wait_for_completion=False, **kwargs)
        self.run = run

    def execute(self, context: Context) -> str:
        """Return the cluster's id.

        Raises
        ------
        EndpointRefusedError
            When the client resolves to an address that the profile does not allow.
        AirflowFailException
            When the run's cluster has ended already.
        """
        emr = open_emr(self.hook, read_airflow_settings())
        with telling_why_it_ended(self):
            cluster_id = str(join_cluster(emr, self.run, self.job_flow_overrides, context)["Id"])
        self._job_flow_id = cluster_id  # the provider's on_kill ends it
        context["ti"].xcom_push(key=CLUSTER_ID, value=cluster_id)
        persist_links(self, context, cluster_id)
        return cluster_id


class AddSteps(EmrAddStepsOperator):
    """Add the steps to the run's cluster, or attach to those of the same names that an earlier try has added.

    When the cluster has ended since, because this task or one before it was cleared after the run's end, one new
    cluster is made in its place.

    Parameters
    ----------
    run : dict
        What ``open_run`` returned.
    job_flow_overrides : dict
        The arguments of RunJobFlow.
    job_flow_id : str
        Id of the cluster that was created for the run.
    """

    template_fields = (*EmrAddStepsOperator.template_fields, "run", "job_flow_overrides")

    def __init__(self, *, run: Any, job_flow_overrides: Any, **kwargs: Any) -> None:
        super().__init__(botocore_config=SINGLE_ATTEMPT, **kwargs)
        self.run = run
        self.job_flow_overrides = job_flow_overrides

    def execute(self, context: Context) -> list[str]:
        """Return the steps' ids, in the order of ``steps``; their cluster's id is the XCom ``job_flow_id``.

        Raises
        ------
        EndpointRefusedError
            When the client resolves to an address that the profile does not allow.
        AirflowFailException
            When the cluster of this round has ended; the message says why. When it is not where it should be; it is
            being ended then.
        """
        settings = read_airflow_settings()
        emr = open_emr(self.hook, settings)
        with telling_why_it_ended(self):
            cluster = self._cluster(emr, context)
            cluster_id = str(cluster["Id"])
            context["ti"].xcom_push(key=CLUSTER_ID, value=cluster_id)
            persist_links(self, context, cluster_id)
            try:
                attestation = inspect_cluster(emr, cluster, cast("dict[str, Any]", self.job_flow_overrides), settings)
            except ResidencyError as error:
                raise AirflowFailException(str(error)) from error
            context["ti"].xcom_push(key=ATTESTATION, value=attestation)
            return emr.join_steps(cluster_id, cast("list[dict[str, Any]]", self.steps))

    def _cluster(self, emr: Emr, context: Context) -> dict[str, Any]:
        try:
            cluster = emr.describe(str(self.job_flow_id))
        except ClientError as error:  # EMR forgets clusters after two months
            self.log.warning("The cluster %s cannot be described: %s", self.job_flow_id, error)
        else:
            if is_live(cluster):
                return cluster
            self.log.info("The cluster of before will not do: %s", examination.describe_cluster(cluster))
        return join_cluster(emr, self.run, self.job_flow_overrides, context)


class StepSensor(EmrStepSensor):
    """Wait for a step; when it fails, tell why, and do not try again: a failed step stays failed.

    While EMR throttles or does not answer, the next look is the retry.

    Parameters
    ----------
    add_task_id : str
        The task that has added the step: it tells cluster and step.
    run : dict
        What ``open_run`` returned.
    """

    template_fields = (*EmrStepSensor.template_fields, "run")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (*EmrStepSensor.operator_extra_links, StepLogsLink())  # type: ignore[assignment]

    def __init__(self, *, add_task_id: str, run: Any, **kwargs: Any) -> None:
        super().__init__(
            job_flow_id=f"{{{{ ti.xcom_pull('{add_task_id}', key='{CLUSTER_ID}') or '' }}}}",
            step_id=f"{{{{ (ti.xcom_pull('{add_task_id}') or [''])[0] }}}}",
            deferrable=False,  # a deployment's default_deferrable would replace poke, and give up after 60 looks
            botocore_config=SINGLE_ATTEMPT,
            **kwargs,
        )
        self.add_task_id = add_task_id
        self.run = run

    def execute(self, context: Context) -> None:
        """Wait for the step.

        Raises
        ------
        EndpointRefusedError
            When the client resolves to an address that the profile does not allow.
        AirflowFailException
            When the step failed or was cancelled; the message says why. When there is none.
        """
        if not (self.job_flow_id and self.step_id):
            raise AirflowFailException(f"{self.add_task_id} has added no step. {self._advice()}")
        open_emr(self.hook, read_airflow_settings())
        super().execute(context)

    def poke(self, context: Context) -> bool:
        """Look at the step once."""
        try:
            completed = bool(super().poke(context))
        except AirflowException as error:
            raise AirflowFailException(self._explain()) from error
        except (BotoCoreError, ClientError) as error:
            if not is_transient(error):
                raise
            self.log.warning("EMR cannot be asked now, the next look is in %g s: %s", self.poke_interval, error)
            return False
        if completed:
            self._log_end()
        return completed

    def get_emr_response(self, context: Context) -> dict[str, Any]:
        """Return EMR's description of the step."""
        response: dict[str, Any] = self.hook.conn.describe_step(ClusterId=self.job_flow_id, StepId=self.step_id)
        persist_links(self, context, self.job_flow_id)
        return response

    def _advice(self) -> str:
        return (
            f"To do the step again, clear {self.add_task_id} with all that follows: that makes one new cluster, and "
            "keeps what completed steps have written"
        )

    def _explain(self) -> str:
        settings = read_airflow_settings()
        emr = open_emr(self.hook, settings)
        step = emr.call("describe_step", ClusterId=self.job_flow_id, StepId=self.step_id)["Step"]
        cluster = self._describe_cluster(emr)
        alone = cluster is not None and tags_of(cluster).get(ROUND_TAG) != self.run["round"]
        wait_seconds = 0.0 if alone else settings.log_wait_seconds
        found = examination.examine_step(step, cluster, self.aws_conn_id, wait_seconds)
        self.log.error("%s", examination.render(found))
        told = "this task was cleared by itself, and a sensor runs nothing. " if alone else ""
        return f"{told}{examination.brief(found)}. {self._advice()}"

    def _describe_cluster(self, emr: Emr) -> dict[str, Any] | None:
        try:
            return emr.describe(str(self.job_flow_id))
        except (BotoCoreError, ClientError) as error:
            self.log.warning("The cluster cannot be described: %s", error)
            return None

    def _log_end(self) -> None:
        """Show the end of the driver's log of a step that has completed, where EMR has written it by now."""
        cluster = self._describe_cluster(open_emr(self.hook, read_airflow_settings()))
        if not (cluster and cluster.get("LogUri")):
            return
        uri = examination.step_log_uri(
            cluster["LogUri"], str(self.job_flow_id), str(self.step_id), examination.STREAMS[-1]
        )
        try:
            tail = examination.read_log_tail(uri, self.aws_conn_id)
        except (OSError, EOFError, ValueError, zlib.error, BotoCoreError) as error:
            self.log.warning("The step's log %s cannot be read: %s", uri, error)
            return
        if tail is None:
            self.log.info("The step's log is not at %s yet; EMR writes it some minutes after the step", uri)
        elif tail:
            self.log.info("The end of %s:\n%s", uri, tail)


class TerminateCluster(EmrTerminateJobFlowOperator):
    """End every live cluster of the run, found by its name and confirmed by its tags, with the steps that it runs.

    By name, since a create that failed after RunJobFlow has returned no id. The ids are used when EMR does not list.
    The provider's operator describes the cluster first, and ends nothing when that fails.

    A task that was cut off while RunJobFlow was on its way (the run was marked failed, or its worker was lost) may yet
    make a cluster, and this task starts at once: then it looks for the cluster for some time.

    Parameters
    ----------
    run : dict
        What ``open_run`` returned.
    makers : tuple of str
        Ids of the tasks that may make a cluster.
    """

    template_fields = (*EmrTerminateJobFlowOperator.template_fields, "run")

    def __init__(self, *, run: Any, makers: tuple[str, ...], **kwargs: Any) -> None:
        ids = " ".join(f"{{{{ ti.xcom_pull('{maker}', key='{CLUSTER_ID}') or '' }}}}" for maker in makers)
        super().__init__(job_flow_id=ids, botocore_config=SINGLE_ATTEMPT, **kwargs)
        self.run = run
        self.makers = makers

    def execute(self, context: Context) -> None:
        """End the run's clusters, and see that none is left.

        Raises
        ------
        EndpointRefusedError
            When the client resolves to an address that the profile does not allow.
        AirflowException
            When a cluster is still live afterwards.
        """
        emr, identity = open_emr(self.hook, read_airflow_settings()), Identity.of(self.run)
        live = self._find(emr, identity)
        if not live and self._may_still_come(context):
            live = self._await(emr, identity)
        if not live:
            self.log.info("No live cluster named %s: nothing to end", identity.name)
            return
        self.log.info("Ending %s (%s)", ", ".join(live), identity.name)
        for cluster_id in live:
            self._cancel_steps(emr, cluster_id)
        emr.terminate(live)
        persist_links(self, context, live[0])
        left = [cluster["Id"] for cluster in emr.clusters(identity, live=True)]
        if left:
            raise AirflowException(
                f"{', '.join(left)} ({identity.name}) still live after TerminateJobFlows; "
                "look whether termination protection is on"
            )

    def _find(self, emr: Emr, identity: Identity) -> list[str]:
        try:
            return [cluster["Id"] for cluster in emr.clusters(identity, live=True)]
        except (BotoCoreError, ClientError) as error:
            known = sorted(set(self.job_flow_id.split()))
            if not known:
                raise
            self.log.warning("The clusters cannot be found by name (%s); ending %s by id", error, ", ".join(known))
            return known

    def _cancel_steps(self, emr: Emr, cluster_id: str) -> None:
        """Cancel what runs, so that it writes no more while the cluster ends, which takes minutes."""
        try:
            cancelled = emr.cancel_steps(cluster_id)
        except (BotoCoreError, ClientError) as error:
            self.log.warning("The steps of %s cannot be cancelled, they end with it: %s", cluster_id, error)
            return
        if cancelled:
            self.log.info("Cancelled %s", ", ".join(cancelled))

    def _may_still_come(self, context: Context) -> bool:
        ti = context["ti"]
        return any(ti.xcom_pull(task_ids=maker, key=SENDING) for maker in self.makers)

    def _await(self, emr: Emr, identity: Identity) -> list[str]:
        self.log.info(
            "A RunJobFlow was cut off: looking for %s for %g s, should it come through",
            identity.name,
            LATE_CLUSTER_SECONDS,
        )
        deadline = time.monotonic() + LATE_CLUSTER_SECONDS
        live: list[str] = []
        while not live and time.monotonic() < deadline:
            time.sleep(LATE_CLUSTER_LOOK_SECONDS)
            live = self._find(emr, identity)
        return live
