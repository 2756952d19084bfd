"""The operator that creates the run's cluster."""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.operators.emr import EmrCreateJobFlowOperator
from airflow.sdk import BaseOperatorLink, Context

from include.aws.retries import SINGLE_ATTEMPT
from include.emr.client import open_emr
from include.operators.links import ClusterLink
from include.operators.shared import explaining_ended_cluster, find_or_create_cluster
from include.records import CLUSTER_ID
from include.settings.deployment import read_airflow_settings


class CreateCluster(EmrCreateJobFlowOperator):
    """Create the run's cluster, or attach to the live one that an earlier attempt created.

    Parameters
    ----------
    run : Run
        The run, as ``open_run`` returned it.
    """

    template_fields = (*EmrCreateJobFlowOperator.template_fields, "run")
    operator_extra_links: tuple[BaseOperatorLink, ...] = (ClusterLink(),)  # type: ignore[assignment]

    def __init__(self, *, run: Any, **kwargs: Any) -> None:
        # emr_conn_id: the stock connection would be merged into the request, with its old release and roles.
        super().__init__(emr_conn_id=None, botocore_config=SINGLE_ATTEMPT, wait_for_completion=False, **kwargs)
        self.run = run

    def execute(self, context: Context) -> str:
        """Return the cluster's id.

        Raises
        ------
        EndpointRefusedError
            If the client resolves to an address that the profile does not allow.
        AirflowFailException
            If the cluster of this round has already ended.
        """
        emr = open_emr(self.hook, read_airflow_settings())
        with explaining_ended_cluster(self):
            cluster_id = str(find_or_create_cluster(emr, self.run, self.job_flow_overrides, context)["Id"])
        self._job_flow_id = cluster_id  # the provider's on_kill terminates this cluster
        context["ti"].xcom_push(key=CLUSTER_ID, value=cluster_id)
        return cluster_id
