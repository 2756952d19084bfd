"""What the actions share: the parsed request, and the clusters that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from moto.core.responses import BaseResponse
from moto.emr.responses import ElasticMapReduceResponse

from local.emr.clusters import limits
from local.emr.clusters.cluster import Cluster
from local.emr.clusters.cluster_state import ENDED_STATES
from local.emr.clusters.errors import UnknownClusterError, modified_after_end, unknown_job_flow
from local.emr.clusters.registry import Registry


class EmrRequest(ElasticMapReduceResponse):
    """One request, parsed by moto."""

    PROTOCOL_PARSER_MAP_TYPE: Any = dict
    registry: ClassVar[Registry]

    # moto reads EMR's region from the host name, which is a loopback address here: read it from the signature.
    get_region_from_url = BaseResponse.get_region_from_url

    @property
    def _request(self) -> Mapping[str, Any]:
        parsed: Mapping[str, Any] = self.params
        return parsed

    def _cluster(self, field: str = "ClusterId") -> Cluster:
        return self.registry.get(self._request.get(field), self.region)

    def _job_flow(self, cluster_id: str) -> Cluster:
        """Return a cluster for an action that calls it a job flow; its error differs from that of :meth:`_cluster`."""
        try:
            return self.registry.get(cluster_id, self.region)
        except UnknownClusterError:
            raise unknown_job_flow() from None

    def _job_flows(self, *, limit: int | None = None) -> list[Cluster]:
        ids: Sequence[str] = self._request.get("JobFlowIds") or []
        limits.check_ids("JobFlowIds", ids, limit=limit)
        return [self._job_flow(cluster_id) for cluster_id in ids]

    def _configure(self, cluster: Cluster, **changes: Any) -> None:
        if cluster.state in ENDED_STATES:
            raise modified_after_end()
        cluster.configure(**changes)
