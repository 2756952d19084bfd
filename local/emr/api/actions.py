"""The EMR actions that the endpoint offers. moto parses the requests and serializes the answers."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import camelcase_to_underscores

from local.emr.api import shapes
from local.emr.api.account_actions import AccountActions
from local.emr.api.instance_actions import InstanceActions
from local.emr.api.service_model import check_request
from local.emr.clusters import instances, limits, validation
from local.emr.clusters.cluster import Cluster
from local.emr.clusters.cluster_state import ENDED_STATES
from local.emr.clusters.errors import InvalidRequestError, ValidationError
from local.emr.faults.api_faults import error_response

logger = logging.getLogger(__name__)

T = TypeVar("T")

ACTIONS = (
    *("AddInstanceFleet", "AddInstanceGroups", "AddJobFlowSteps", "AddTags", "CancelSteps", "DescribeCluster"),
    *("DescribeReleaseLabel", "DescribeStep", "GetAutoTerminationPolicy", "GetBlockPublicAccessConfiguration"),
    *("GetManagedScalingPolicy", "ListBootstrapActions", "ListClusters", "ListInstanceFleets", "ListInstanceGroups"),
    *("ListInstances", "ListReleaseLabels", "ListSecurityConfigurations", "ListSteps", "ModifyCluster"),
    *("ModifyInstanceFleet", "ModifyInstanceGroups", "PutAutoScalingPolicy", "PutAutoTerminationPolicy"),
    *("PutBlockPublicAccessConfiguration", "PutManagedScalingPolicy", "RemoveAutoScalingPolicy"),
    *("RemoveAutoTerminationPolicy", "RemoveManagedScalingPolicy", "RemoveTags", "RunJobFlow"),
    *("SetKeepJobFlowAliveWhenNoSteps", "SetTerminationProtection", "SetUnhealthyNodeReplacement"),
    *("SetVisibleToAllUsers", "TerminateJobFlows"),
    # moto implements these:
    *("CreateSecurityConfiguration", "DeleteSecurityConfiguration", "DescribeSecurityConfiguration"),
    "ListSupportedInstanceTypes",
)


class EmrApi(InstanceActions, AccountActions):
    """One request. moto calls the method with the name of the action in snake case."""

    def call_action(self) -> Any:
        """Answer the request."""
        action = self._get_action()
        if action not in ACTIONS:
            return self._error("UnknownOperationException", f"The local EMR endpoint does not offer {action}.", 400)
        try:
            check_request(action, self._request)
            return super().call_action()
        except ServiceException as error:
            return self.serialized(ActionResult(error))
        except Exception as error:
            logger.exception("%s failed", camelcase_to_underscores(action))
            return self._error("InternalServerError", f"The local EMR endpoint failed: {error}", 500)

    def _error(self, code: str, message: str, status: int) -> tuple[int, dict[str, str], str]:
        # moto serializes only the codes in its model of EMR.
        answer = error_response(code, message, status)
        return status, dict(answer.headers), answer.get_data(as_text=True)

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
        name = self._request.get("SecurityConfiguration")
        if name and name not in self.backend.security_configurations:
            raise ValidationError(f"Security configuration with name '{name}' does not exist.")
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
        for cluster in self._job_flows(limit=limits.MAX_TERMINATED):
            if cluster.termination_protected and cluster.state not in ENDED_STATES:
                protected.append(cluster.id)
            else:
                cluster.terminate()
        if protected:
            raise ValidationError("Could not shut down one or more job flows since they are termination protected.")
        return EmptyResult()

    def set_termination_protection(self) -> ActionResult:
        """Set the termination protection of clusters."""
        for cluster in self._job_flows():
            self._configure(cluster, termination_protected=self._request["TerminationProtected"])
        return EmptyResult()

    def set_keep_job_flow_alive_when_no_steps(self) -> ActionResult:
        """Set whether clusters without steps wait or terminate."""
        keep_alive = self._request["KeepJobFlowAliveWhenNoSteps"]
        clusters = self._job_flows()
        if not keep_alive and any(cluster.has_three_masters for cluster in clusters):
            raise ValidationError("A cluster with three primary nodes cannot terminate after its steps.")
        for cluster in clusters:
            self._configure(cluster, keep_alive=keep_alive)
        return EmptyResult()

    def set_unhealthy_node_replacement(self) -> EmptyResult:
        """Set whether EMR would replace unhealthy nodes of clusters; recorded only."""
        for cluster in self._job_flows():
            changed = {"UnhealthyNodeReplacement": self._request["UnhealthyNodeReplacement"]}
            with cluster.lock:
                requested = {**cluster.request["Instances"], **changed}
                self._configure(cluster, request={**cluster.request, "Instances": requested})
        return EmptyResult()

    def set_visible_to_all_users(self) -> EmptyResult:
        """Set whether all users of the account see clusters; recorded only."""
        for cluster in self._job_flows():
            with cluster.lock:
                changed = {"VisibleToAllUsers": self._request["VisibleToAllUsers"]}
                self._configure(cluster, request={**cluster.request, **changed})
        return EmptyResult()

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
        """Set tags of a cluster that has not ended."""
        cluster, tags = self._taggable(), self._request.get("Tags") or []
        with cluster.lock, limits.invalid_request():
            validation.check_tags(tags, cluster.tags)
            cluster.tag({tag["Key"]: tag.get("Value", "") for tag in tags})
        return EmptyResult()

    def remove_tags(self) -> ActionResult:
        """Remove tags of a cluster that has not ended."""
        self._taggable().tag({}, remove=self._request.get("TagKeys") or [])
        return EmptyResult()

    def _taggable(self) -> Cluster:
        cluster = self._cluster("ResourceId")
        if cluster.state in ENDED_STATES:
            raise InvalidRequestError(
                f"Cluster '{cluster.id}' is in state {cluster.state}: its tags cannot be changed."
            )
        return cluster

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

    def list_bootstrap_actions(self) -> ActionResult:
        """List the bootstrap actions of a cluster, which are recorded but not run."""
        return ActionResult({"BootstrapActions": shapes.bootstrap_actions(self._cluster())})

    # Steps

    def add_job_flow_steps(self) -> ActionResult:
        """Append steps to a cluster."""
        role = self._request.get("ExecutionRoleArn")
        steps = [step | ({"ExecutionRoleArn": role} if role else {}) for step in self._request.get("Steps") or []]
        added = self._job_flow(self._request["JobFlowId"]).add_steps(steps)
        return ActionResult({"StepIds": [step.id for step in added]})

    def describe_step(self) -> ActionResult:
        """Describe a step."""
        cluster = self._cluster()
        with cluster.lock:
            return ActionResult({"Step": shapes.step_details(cluster.step(self._request.get("StepId")))})

    def list_steps(self) -> ActionResult:
        """List a cluster's steps: those with the requested ids in their order, or the newest first.

        With states, EMR promises no order (EMR API Reference, ListSteps).
        """
        cluster = self._cluster()
        ids, states = self._request.get("StepIds"), self._request.get("StepStates")
        limits.check_listed_steps(ids, states)
        with cluster.lock:
            listed = [cluster.step(step_id) for step_id in ids] if ids else cluster.steps[::-1]
            steps = [step for step in listed if not states or step.state in states]
            if states:
                steps = self._shuffled(steps, lambda step: step.id)
            page, marker = self._page(steps, lambda step: step.id)
            return ActionResult({"Steps": [shapes.step_details(step) for step in page], **marker})

    def cancel_steps(self) -> ActionResult:
        """Cancel pending and running steps."""
        kill = self._request.get("StepCancellationOption") == "TERMINATE_PROCESS"
        answers = self._cluster().cancel_steps(self._request.get("StepIds") or [], kill=kill)
        infos = [
            {"StepId": step_id, "Status": status} | ({"Reason": reason} if reason else {})
            for step_id, status, reason in answers
        ]
        return ActionResult({"CancelStepsInfoList": infos})
