"""The operator that adds steps to the run's cluster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from airflow.providers.amazon.aws.operators.emr import EmrAddStepsOperator
from airflow.sdk import BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException
from botocore.exceptions import ClientError

from include.autopsy.examination import describe_cluster
from include.aws.retries import SINGLE_ATTEMPT
from include.emr.client import Emr, open_emr
from include.emr.identity import Cluster, RunIdentity, is_live
from include.lake.layout import Lake
from include.lake.state import is_published
from include.operators.links import ClusterLink
from include.operators.shared import (
    explaining_ended_cluster,
    find_or_create_cluster,
)
from include.records import ATTESTATION, CLUSTER_ID, ClusterRequest, StepRequest
from include.residency.checks import ResidencyError
from include.residency.cluster import PlaceUnknownError, inspect_cluster
from include.settings.deployment import read_airflow_settings


class AddSteps(EmrAddStepsOperator):
    """Add the steps to the run's cluster, or attach to the same steps that an earlier attempt added.

    If the cluster has ended since, because this task or one upstream was cleared after the run, one new cluster
    replaces it.

    Parameters
    ----------
    run : Run
        The run, as ``open_run`` returned it.
    found : FoundChanges
        What ``find_changes`` returned.
    job_flow_overrides : dict
        The arguments of RunJobFlow.
    job_flow_id : str
        Id of the cluster that ``create_cluster`` returned.
    """

    template_fields = (*EmrAddStepsOperator.template_fields, "run", "found", "job_flow_overrides")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (ClusterLink(),)  # type: ignore[assignment]

    def __init__(self, *, run: Any, found: Any, job_flow_overrides: Any, **kwargs: Any) -> None:
        super().__init__(botocore_config=SINGLE_ATTEMPT, **kwargs)
        self.run = run
        self.found = found
        self.job_flow_overrides = job_flow_overrides

    def execute(self, context: Context) -> list[str]:
        """Return the steps' ids, in the order of ``steps``; push their cluster's id as XCom ``job_flow_id``.

        Raises
        ------
        AirflowRescheduleException
            While the cluster starts and EMR does not know its place yet: the task frees its worker until the next poll.
        EndpointRefusedError
            If the client resolves to an address that the profile does not allow.
        AirflowFailException
            If the run has published. If the cluster of this round has ended; the message says why. If the cluster is
            outside the allowed regions or differs from the request; it is being terminated.
        """
        settings = read_airflow_settings()
        self._check_not_published(settings.aws_conn_id)
        emr = open_emr(self.hook, settings)
        with explaining_ended_cluster(self):
            cluster = self._live_cluster(emr, context)
            cluster_id = str(cluster["Id"])
            context["ti"].xcom_push(key=CLUSTER_ID, value=cluster_id)
            try:
                attestation = inspect_cluster(emr, cluster, cast("ClusterRequest", self.job_flow_overrides), settings)
            except PlaceUnknownError as error:
                self.log.info("%s; the next poll is in %g s", error, settings.poke_interval_seconds)
                later = datetime.now(UTC) + timedelta(seconds=settings.poke_interval_seconds)
                raise AirflowRescheduleException(later) from error  # type: ignore[no-untyped-call]
            except ResidencyError as error:
                raise AirflowFailException(str(error)) from error
            context["ti"].xcom_push(key=ATTESTATION, value=attestation)
            return emr.find_or_add_steps(cluster_id, cast("list[StepRequest]", self.steps))

    def _check_not_published(self, aws_conn_id: str | None) -> None:
        """Fail if the steps would replace the files of a published state."""
        name = self.found["run"]
        if is_published(Lake(self.run["lake"]), name, aws_conn_id):
            raise AirflowFailException(
                f"the run {name} has published, and its files are not replaced: to repeat it, clear open_run with its "
                "downstream tasks"
            )

    def _live_cluster(self, emr: Emr, context: Context) -> Cluster:
        try:
            cluster = emr.describe(str(self.job_flow_id))
        except ClientError as error:  # EMR keeps terminated clusters for two months
            self.log.warning("The cluster %s cannot be described: %s", self.job_flow_id, error)
        else:
            if is_live(cluster):
                return emr.attach(RunIdentity.from_run(self.run), cluster)
            self.log.info("The previous cluster cannot be reused: %s", describe_cluster(cluster))
        return find_or_create_cluster(emr, self.run, self.job_flow_overrides, context)
