"""The sensor that waits for a step and explains its failure."""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import Any

from airflow.providers.amazon.aws.sensors.emr import EmrStepSensor
from airflow.sdk import BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from botocore.exceptions import BotoCoreError, ClientError

from include.autopsy.examination import STREAMS, brief, examine_step, read_log_tail, render, step_log_uri
from include.autopsy.task_failure import DiagnosedError
from include.aws.quiet import quiet_clients
from include.aws.retries import SINGLE_ATTEMPT, is_transient
from include.emr.client import Emr, open_emr
from include.emr.identity import Cluster
from include.operators.links import ClusterLink, StepLogsLink
from include.operators.shared import CLEAR_ADVICE
from include.records import CLUSTER_ID, JsonObject
from include.settings.deployment import read_airflow_settings


class StepSensor(EmrStepSensor):
    """Wait for a step. If it fails, report why and fail without retries: a failed step stays failed.

    While EMR throttles or does not answer, the next poke is the retry.

    Parameters
    ----------
    add_task_id : str
        The task that added the step; its XComs name the cluster and the step.
    run : Run
        The run, as ``open_run`` returned it.
    """

    template_fields = (*EmrStepSensor.template_fields, "run")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (ClusterLink(), StepLogsLink())  # type: ignore[assignment]

    def __init__(self, *, add_task_id: str, run: Any, **kwargs: Any) -> None:
        super().__init__(
            job_flow_id=f"{{{{ ti.xcom_pull('{add_task_id}', key='{CLUSTER_ID}') or '' }}}}",
            step_id=f"{{{{ (ti.xcom_pull('{add_task_id}') or [''])[0] }}}}",
            deferrable=False,  # a deployment's default_deferrable would replace poke, and give up after 60 polls
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
            If the client resolves to an address that the profile does not allow.
        AirflowFailException
            If the step failed or was cancelled; the message says why. If there is no step.
        """
        if not (self.job_flow_id and self.step_id):
            raise AirflowFailException(f"{self.add_task_id} has added no step. {self._advice()}")
        with quiet_clients():
            open_emr(self.hook, read_airflow_settings())
            super().execute(context)

    def poke(self, context: Context) -> bool:
        """Poll the step once; return whether it has completed."""
        try:
            completed = bool(super().poke(context))
        except AirflowException as error:
            raise self._explain() from error
        except (BotoCoreError, ClientError) as error:
            if not is_transient(error):
                raise
            self.log.warning("EMR is not available; the next poll is in %g s: %s", self.poke_interval, error)
            return False
        if completed:
            self._log_tail()
        return completed

    def get_emr_response(self, context: Context) -> JsonObject:
        """Return EMR's description of the step."""
        response: JsonObject = self.hook.conn.describe_step(ClusterId=self.job_flow_id, StepId=self.step_id)
        return response

    def _advice(self) -> str:
        return f"To run the step again, clear {self.add_task_id} {CLEAR_ADVICE}"

    def _explain(self) -> DiagnosedError:
        settings = read_airflow_settings()
        emr = open_emr(self.hook, settings)
        step = emr.call("describe_step", ClusterId=self.job_flow_id, StepId=self.step_id)["Step"]
        cluster = self._describe_cluster(emr)
        is_old = _ended_before(step, datetime.fromisoformat(self.run["opened_at"]))
        autopsy = examine_step(step, cluster, self.aws_conn_id, 0.0 if is_old else settings.log_wait_seconds)
        self.log.error("%s", render(autopsy))
        prefix = "this task was cleared by itself, and a sensor starts no step. " if is_old else ""
        return DiagnosedError(f"{prefix}{brief(autopsy)}. {self._advice()}", autopsy.diagnosis)

    def _describe_cluster(self, emr: Emr) -> Cluster | None:
        try:
            return emr.describe(str(self.job_flow_id))
        except (BotoCoreError, ClientError) as error:
            self.log.warning("The cluster cannot be described: %s", error)
            return None

    def _log_tail(self) -> None:
        """Log the last lines of a completed step's driver log, if EMR has already written it."""
        cluster = self._describe_cluster(open_emr(self.hook, read_airflow_settings()))
        if not (cluster and cluster.get("LogUri")):
            return
        uri = step_log_uri(cluster["LogUri"], str(self.job_flow_id), str(self.step_id), STREAMS[-1])
        try:
            tail = read_log_tail(uri, self.aws_conn_id)
        except (OSError, EOFError, ValueError, zlib.error, BotoCoreError) as error:
            self.log.warning("The step's log %s cannot be read: %s", uri, error)
            return
        if tail is None:
            self.log.info("The step's log %s does not exist yet; EMR writes it some minutes after the step", uri)
        elif tail:
            self.log.info("The last lines of %s:\n%s", uri, tail)


def _ended_before(step: JsonObject, moment: datetime) -> bool:
    """Return whether a step had ended before the run's round began: then this round has not run it."""
    ended: datetime | None = step["Status"]["Timeline"].get("EndDateTime")
    return ended is not None and ended < moment
