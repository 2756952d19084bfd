"""The actions on instances, groups and fleets. Changes are recorded and described; nothing is provisioned."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, EmptyResult

from local.emr.api import shapes
from local.emr.api.base import EmrRequest
from local.emr.clusters import instances, validation
from local.emr.clusters.cluster import Cluster
from local.emr.clusters.cluster_state import ENDED_STATES
from local.emr.clusters.errors import InvalidRequestError, ValidationError
from local.emr.clusters.limits import invalid_request

EXCLUSIVE = "Instance fleets and instance groups are mutually exclusive."


class InstanceActions(EmrRequest):
    """The actions on groups and fleets."""

    def list_instance_groups(self) -> ActionResult:
        """List the instance groups of a cluster."""
        cluster = self._cluster()
        if instances.fleets(cluster.request):
            raise InvalidRequestError(EXCLUSIVE)
        return ActionResult({"InstanceGroups": shapes.instance_groups(cluster)})

    def list_instance_fleets(self) -> ActionResult:
        """List the instance fleets of a cluster."""
        cluster = self._cluster()
        if not instances.fleets(cluster.request):
            raise InvalidRequestError(EXCLUSIVE)
        return ActionResult({"InstanceFleets": shapes.instance_fleets(cluster)})

    def add_instance_groups(self) -> ActionResult:
        """Add TASK groups to a cluster."""
        cluster = self._job_flow(self._request["JobFlowId"])
        with cluster.lock:
            if instances.fleets(cluster.request):
                raise ValidationError(EXCLUSIVE)
            present = instances.groups(cluster.request)
            groups = [*present, *self._request["InstanceGroups"]]
            validation.check_groups(groups, cluster.request["ReleaseLabel"])
            self._replace(cluster, InstanceGroups=groups)
            ids = [instances.identify("ig", cluster.id, number) for number in range(len(present), len(groups))]
        return ActionResult({"JobFlowId": cluster.id, "InstanceGroupIds": ids, "ClusterArn": shapes.arn(cluster)})

    def modify_instance_groups(self) -> EmptyResult:
        """Change the number of instances, or the configurations, of groups."""
        for change in self._request.get("InstanceGroups") or []:
            cluster, number = self._group(change["InstanceGroupId"], self._request.get("ClusterId"))
            with cluster.lock:
                groups = instances.groups(cluster.request)
                if groups[number]["InstanceRole"] == "MASTER" and "InstanceCount" in change:
                    raise ValidationError("The MASTER group cannot be resized.")
                changed = {name: change[name] for name in ("InstanceCount", "Configurations") if name in change}
                groups[number] = groups[number] | changed
                validation.check_groups(groups, cluster.request["ReleaseLabel"])
                self._replace(cluster, InstanceGroups=groups)
        return EmptyResult()

    def add_instance_fleet(self) -> ActionResult:
        """Add a TASK fleet to a cluster that has none."""
        cluster = self._cluster()
        with cluster.lock, invalid_request():
            present = instances.fleets(cluster.request)
            if not present:
                raise InvalidRequestError(EXCLUSIVE)
            fleets = [*present, self._request["InstanceFleet"]]
            validation.check_fleets(fleets, cluster.request["ReleaseLabel"])
            self._replace(cluster, InstanceFleets=fleets)
            fleet_id = instances.identify("if", cluster.id, len(present))
        return ActionResult(
            {"ClusterId": cluster.id, "InstanceFleetId": fleet_id, "ClusterArn": shapes.arn(cluster)},
        )

    def modify_instance_fleet(self) -> EmptyResult:
        """Change the target capacities, or the instance types, of a fleet."""
        cluster, change = self._cluster(), self._request["InstanceFleet"]
        with cluster.lock, invalid_request():
            fleets = instances.fleets(cluster.request)
            ids = [instances.identify("if", cluster.id, number) for number in range(len(fleets))]
            if change["InstanceFleetId"] not in ids:
                raise InvalidRequestError(f"Instance fleet id '{change['InstanceFleetId']}' is not valid.")
            number = ids.index(change["InstanceFleetId"])
            if fleets[number]["InstanceFleetType"] == "MASTER":
                raise InvalidRequestError("The MASTER fleet cannot be modified.")
            changed = {name: value for name, value in change.items() if name != "InstanceFleetId"}
            fleets[number] = fleets[number] | changed
            validation.check_fleets(fleets, cluster.request["ReleaseLabel"])
            self._replace(cluster, InstanceFleets=fleets)
        return EmptyResult()

    def put_auto_scaling_policy(self) -> ActionResult:
        """Set the automatic scaling policy of a CORE or TASK group. It is recorded, and scales nothing."""
        cluster, number = self._policy_group()
        policy = self._request["AutoScalingPolicy"]
        self._change_group(cluster, number, AutoScalingPolicy=policy)
        answer = {"ClusterId": cluster.id, "InstanceGroupId": self._request["InstanceGroupId"]}
        description = shapes.auto_scaling_policy(cluster, policy)
        return ActionResult({**answer, "AutoScalingPolicy": description, "ClusterArn": shapes.arn(cluster)})

    def remove_auto_scaling_policy(self) -> EmptyResult:
        """Remove the automatic scaling policy of a group."""
        cluster, number = self._policy_group()
        self._change_group(cluster, number, AutoScalingPolicy=None)
        return EmptyResult()

    def _policy_group(self) -> tuple[Cluster, int]:
        cluster, number = self._group(self._request["InstanceGroupId"], self._request["ClusterId"])
        if instances.groups(cluster.request)[number]["InstanceRole"] == "MASTER":
            raise ValidationError("The MASTER group cannot have an automatic scaling policy.")
        return cluster, number

    def _group(self, group_id: str, cluster_id: str | None) -> tuple[Cluster, int]:
        """Return the cluster of a group and the group's number there."""
        clusters = [self._job_flow(cluster_id)] if cluster_id else self.registry.all(self.region)
        for cluster in clusters:
            if not instances.fleets(cluster.request):
                for number in range(len(instances.groups(cluster.request))):
                    if instances.identify("ig", cluster.id, number) == group_id:
                        return cluster, number
        raise ValidationError(f"Instance group id '{group_id}' is not valid.")

    def _change_group(self, cluster: Cluster, number: int, **changes: Any) -> None:
        with cluster.lock:
            groups = instances.groups(cluster.request)
            groups[number] = groups[number] | changes
            self._replace(cluster, InstanceGroups=groups)

    def _replace(self, cluster: Cluster, **members: Any) -> None:
        """Replace members of the Instances in the cluster's request, which describes its instances."""
        if cluster.state in ENDED_STATES:
            raise ValidationError("An instance group or fleet of a cluster that has ended may not be modified.")
        self._configure(cluster, request={**cluster.request, "Instances": {**cluster.request["Instances"], **members}})
