"""The EMR actions that the endpoint offers. moto parses the requests and serializes the answers."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

from moto.core.responses import ActionResult, BaseResponse, EmptyResult
from moto.core.utils import camelcase_to_underscores
from moto.emr.responses import ElasticMapReduceResponse

from local.emr.api import shapes
from local.emr.clusters import instances, validation
from local.emr.clusters.cluster import Cluster
from local.emr.clusters.cluster_state import ENDED_STATES
from local.emr.clusters.errors import InvalidRequestError, ValidationError
from local.emr.clusters.registry import Registry
from local.emr.faults.api_faults import error_response

logger = logging.getLogger(__name__)

T = TypeVar("T")

ACTIONS = (
    *("AddJobFlowSteps", "AddTags", "CancelSteps", "DescribeCluster", "DescribeStep", "GetAutoTerminationPolicy"),
    *("GetManagedScalingPolicy", "ListBootstrapActions", "ListClusters", "ListInstanceFleets", "ListInstanceGroups"),
    *("ListInstances", "ListReleaseLabels", "ListSteps", "ModifyCluster", "PutAutoTerminationPolicy"),
    *("PutManagedScalingPolicy", "RemoveAutoTerminationPolicy", "RemoveManagedScalingPolicy", "RemoveTags"),
    *("RunJobFlow", "SetKeepJobFlowAliveWhenNoSteps", "SetTerminationProtection", "TerminateJobFlows"),
    # moto implements these:
    *("CreateSecurityConfiguration", "DeleteSecurityConfiguration", "DescribeSecurityConfiguration"),
    "ListSupportedInstanceTypes",
)


class EmrApi(ElasticMapReduceResponse):
    """One request. moto calls the method with the name of the action in snake case."""

    PROTOCOL_PARSER_MAP_TYPE: Any = dict
    registry: ClassVar[Registry]

    # moto reads EMR's region from the host name, which is a loopback address here: read it from the signature.
    get_region_from_url = BaseResponse.get_region_from_url

    def call_action(self) -> Any:
        """Answer the request."""
        action = self._get_action()
        if action not in ACTIONS:
            return self._error("UnknownOperationException", f"The local EMR endpoint does not offer {action}.", 400)
        try:
            return super().call_action()
        except Exception as error:
            logger.exception("%s failed", camelcase_to_underscores(action))
            return self._error("InternalServerError", f"The local EMR endpoint failed: {error}", 500)

    def _error(self, code: str, message: str, status: int) -> tuple[int, dict[str, str], str]:
        # moto serializes only the codes in its model of EMR.
        answer = error_response(code, message, status)
        return status, dict(answer.headers), answer.get_data(as_text=True)

    @property
    def _request(self) -> Mapping[str, Any]:
        parsed: Mapping[str, Any] = self.params
        return parsed

    def _cluster(self, field: str = "ClusterId") -> Cluster:
        return self.registry.get(self._request.get(field), self.region)

    def _clusters(self) -> list[Cluster]:
        ids = self._request.get("JobFlowIds") or []
        return [self.registry.get(cluster_id, self.region) for cluster_id in ids]

    def _page(self, items: Sequence[T], identify: Callable[[T], str]) -> tuple[list[T], dict[str, str]]:
        """Return the items of the requested page, and the Marker of the next page: the id of the last item."""
        start = 0
        marker = self._request.get("Marker")
        if marker:
            ids = [identify(item) for item in items]
            if marker not in ids:
                raise InvalidRequestError(f"Marker '{marker}' is not valid.")
            start = ids.index(marker) + 1
        size = self.registry.options.page_size
        page = list(items[start : start + size])
        return page, {"Marker": identify(page[-1])} if start + size < len(items) else {}

    def _shuffled(self, items: Sequence[T], identify: Callable[[T], str]) -> list[T]:
        """Return items in an order that the seed determines, if the endpoint shuffles.

        The place of an item depends on its id only, so that the pages of a list have each item once.
        """
        seed = self.registry.options.shuffle_seed
        if seed is None:
            return list(items)
        return sorted(items, key=lambda item: hashlib.sha256(f"{seed} {identify(item)}".encode()).digest())

    # Clusters

    def run_job_flow(self) -> ActionResult:
        """Start a cluster."""
        cluster = self.registry.run(self._request, region=self.region, account=self.current_account)
        return ActionResult({"JobFlowId": cluster.id, "ClusterArn": shapes.arn(cluster)})

    def describe_cluster(self) -> ActionResult:
        """Describe a cluster."""
        cluster = self._cluster()
        with cluster.lock:
            return ActionResult({"Cluster": shapes.cluster_details(cluster)})

    def list_clusters(self) -> ActionResult:
        """List clusters, the newest first; EMR itself promises no order (EMR API Reference, ListClusters)."""
        states = self._request.get("ClusterStates")
        after, before = self._time("CreatedAfter"), self._time("CreatedBefore")

        def is_requested(cluster: Cluster) -> bool:
            return (
                cluster.is_listed
                and (not states or cluster.visible_status[0] in states)
                and (after is None or cluster.created > after)
                and (before is None or cluster.created < before)
            )

        clusters = self._shuffled(self.registry.all(self.region, is_requested), lambda cluster: cluster.id)
        page, marker = self._page(clusters, lambda cluster: cluster.id)
        return ActionResult({"Clusters": [shapes.cluster_summary(cluster) for cluster in page], **marker})

    def _time(self, field: str) -> datetime | None:
        time: datetime | None = self._request.get(field)
        return time.replace(tzinfo=UTC) if time else None

    def terminate_job_flows(self) -> ActionResult:
        """Terminate clusters. If some are protected, terminate the others and reject the request."""
        protected = []
        for cluster in self._clusters():
            if cluster.termination_protected and cluster.state not in ENDED_STATES:
                protected.append(cluster.id)
            else:
                cluster.terminate()
        if protected:
            raise ValidationError("Could not shut down one or more job flows since they are termination protected.")
        return EmptyResult()

    def set_termination_protection(self) -> ActionResult:
        """Set the termination protection of clusters."""
        for cluster in self._clusters():
            self._configure(cluster, termination_protected=self._request["TerminationProtected"])
        return EmptyResult()

    def set_keep_job_flow_alive_when_no_steps(self) -> ActionResult:
        """Set whether clusters without steps wait or terminate."""
        for cluster in self._clusters():
            self._configure(cluster, keep_alive=self._request["KeepJobFlowAliveWhenNoSteps"])
        return EmptyResult()

    def _configure(self, cluster: Cluster, **changes: Any) -> None:
        if cluster.state in ENDED_STATES:
            raise ValidationError("A job flow that is shutting down, terminated, or finished may not be modified.")
        cluster.configure(**changes)

    def modify_cluster(self) -> ActionResult:
        """Set how many steps run at the same time."""
        cluster = self._cluster()
        level = self._request.get("StepConcurrencyLevel")
        if level is not None:
            validation.check_concurrency(level)
            self._configure(cluster, concurrency=level)
        return ActionResult({"StepConcurrencyLevel": cluster.concurrency})

    # The actions of the two policies differ in the checks and the field only. moto calls each by its own name.

    def put_auto_termination_policy(self) -> ActionResult:
        """Set the auto-termination policy of a cluster."""
        policy = self._request.get("AutoTerminationPolicy")
        validation.check_auto_termination(policy)
        self._configure(self._cluster(), auto_termination=policy)
        return EmptyResult()

    def get_auto_termination_policy(self) -> ActionResult:
        """Return the auto-termination policy of a cluster."""
        policy = self._cluster().auto_termination
        return ActionResult({"AutoTerminationPolicy": policy} if policy else {})

    def remove_auto_termination_policy(self) -> ActionResult:
        """Remove the auto-termination policy of a cluster."""
        self._configure(self._cluster(), auto_termination=None)
        return EmptyResult()

    def put_managed_scaling_policy(self) -> ActionResult:
        """Set the managed scaling policy of a cluster."""
        cluster = self._cluster()
        policy = self._request.get("ManagedScalingPolicy")
        validation.check_managed_scaling(policy, fleets=bool(cluster.request["Instances"].get("InstanceFleets")))
        self._configure(cluster, managed_scaling=policy)
        return EmptyResult()

    def get_managed_scaling_policy(self) -> ActionResult:
        """Return the managed scaling policy of a cluster."""
        policy = self._cluster().managed_scaling
        return ActionResult({"ManagedScalingPolicy": policy} if policy else {})

    def remove_managed_scaling_policy(self) -> ActionResult:
        """Remove the managed scaling policy of a cluster."""
        self._configure(self._cluster(), managed_scaling=None)
        return EmptyResult()

    def add_tags(self) -> ActionResult:
        """Set tags of a cluster."""
        tags = {tag["Key"]: tag.get("Value", "") for tag in self._request.get("Tags") or []}
        self._cluster("ResourceId").tag(tags)
        return EmptyResult()

    def remove_tags(self) -> ActionResult:
        """Remove tags of a cluster."""
        self._cluster("ResourceId").tag({}, remove=self._request.get("TagKeys") or [])
        return EmptyResult()

    def list_instances(self) -> ActionResult:
        """List the requested instances of a cluster."""
        request = self._request
        roles = request.get("InstanceGroupTypes") or [role for role in [request.get("InstanceFleetType")] if role]
        matching = [
            instance
            for instance in instances.describe(self._cluster())
            if request.get("InstanceGroupId") in (None, instance.get("InstanceGroupId"))
            and request.get("InstanceFleetId") in (None, instance.get("InstanceFleetId"))
            and (not roles or instance["_role"] in roles)
            and (not request.get("InstanceStates") or instance["Status"]["State"] in request["InstanceStates"])
        ]
        matching = self._shuffled(matching, lambda instance: str(instance["Id"]))
        page, marker = self._page(matching, lambda instance: str(instance["Id"]))
        return ActionResult({"Instances": page, **marker})

    def list_instance_groups(self) -> ActionResult:
        """List the instance groups of a cluster."""
        cluster = self._cluster()
        if cluster.request["Instances"].get("InstanceFleets"):
            raise InvalidRequestError("Instance fleets and instance groups are mutually exclusive.")
        return ActionResult({"InstanceGroups": shapes.instance_groups(cluster)})

    def list_instance_fleets(self) -> ActionResult:
        """List the instance fleets of a cluster."""
        cluster = self._cluster()
        if not cluster.request["Instances"].get("InstanceFleets"):
            raise InvalidRequestError("Instance fleets and instance groups are mutually exclusive.")
        return ActionResult({"InstanceFleets": shapes.instance_fleets(cluster)})

    def list_bootstrap_actions(self) -> ActionResult:
        """List the bootstrap actions of a cluster, which are recorded but not run."""
        return ActionResult({"BootstrapActions": shapes.bootstrap_actions(self._cluster())})

    def list_release_labels(self) -> ActionResult:
        """List the release labels of the region."""
        filters = self._request.get("Filters") or {}
        prefix = filters.get("Prefix", "").lower()
        labels = [label for label in validation.release_labels(self.region) if label.startswith(prefix)]
        return ActionResult({"ReleaseLabels": labels})

    # Steps

    def add_job_flow_steps(self) -> ActionResult:
        """Append steps to a cluster."""
        added = self._cluster("JobFlowId").add_steps(self._request.get("Steps") or [])
        return ActionResult({"StepIds": [step.id for step in added]})

    def describe_step(self) -> ActionResult:
        """Describe a step."""
        cluster = self._cluster()
        with cluster.lock:
            return ActionResult({"Step": shapes.step_details(cluster.step(self._request.get("StepId")))})

    def list_steps(self) -> ActionResult:
        """List a cluster's steps, the newest first. With a filter, EMR promises no order (EMR API Reference)."""
        cluster = self._cluster()
        ids, states = self._request.get("StepIds"), self._request.get("StepStates")
        with cluster.lock:
            requested = [cluster.step(step_id) for step_id in ids] if ids else cluster.steps
            steps = [step for step in cluster.steps[::-1] if step in requested and (not states or step.state in states)]
            if states:
                steps = self._shuffled(steps, lambda step: step.id)
            page, marker = self._page(steps, lambda step: step.id)
            return ActionResult({"Steps": [shapes.step_details(step) for step in page], **marker})

    def cancel_steps(self) -> ActionResult:
        """Cancel pending and running steps."""
        option = self._request.get("StepCancellationOption")
        validation.check_cancellation_option(option)
        answers = self._cluster().cancel_steps(self._request.get("StepIds") or [], kill=option == "TERMINATE_PROCESS")
        infos = [
            {"StepId": step_id, "Status": status} | ({"Reason": reason} if reason else {})
            for step_id, status, reason in answers
        ]
        return ActionResult({"CancelStepsInfoList": infos})
