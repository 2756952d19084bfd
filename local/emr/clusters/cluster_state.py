"""The state of a cluster: its settings, its steps, its last change of state. No threads and no processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from moto.emr.utils import random_cluster_id

from local.emr.clusters.errors import unknown_step
from local.emr.clusters.terminations import Termination
from local.emr.clusters.validation import has_three_masters
from local.emr.spark.steps import Step

logger = logging.getLogger(__name__)

ENDED_STATES = ("TERMINATED", "TERMINATED_WITH_ERRORS")
TERMINATION_STATES = ("TERMINATING", *ENDED_STATES)
STARTED_STATES = ("RUNNING", "CANCEL_PENDING")
"""States of a step that has processes."""


class ClusterState:
    """The state of a cluster, as a new cluster has it. :mod:`local.emr.clusters.records` saves and restores it.

    Parameters
    ----------
    request : mapping
        The RunJobFlow request, already checked.
    region, account : str
        Region and account of the caller.
    cluster_id : str, optional
        Its id; a new one by default.

    Attributes
    ----------
    state : str
        State of the cluster in the EMR API.
    reason : tuple of str or None, str
        Code and message of the last change of state.
    termination : Termination or None
        Why it terminates; None until then.
    created, ready, ended, idle_since : datetime or None
        Times of creation, of the end of its bootstrap actions, of its termination, and since when it has no step.
    lost_instances : dict of str to dict
        Lost instances: time (``at``) and ``message`` by instance id.
    steps : list of Step
        Its steps in the order of submission.
    """

    def __init__(self, request: Mapping[str, Any], *, region: str, account: str, cluster_id: str | None = None) -> None:
        instances = request.get("Instances") or {}
        self.id = cluster_id or random_cluster_id()
        self.request = request
        self.region = region
        self.account = account
        self.name = str(request["Name"])
        # With three primary nodes, a cluster is protected and waits after its steps (EMR Management Guide).
        self.has_three_masters = has_three_masters(instances)
        self.keep_alive: bool = instances.get("KeepJobFlowAliveWhenNoSteps", False) or self.has_three_masters
        self.termination_protected: bool = instances.get("TerminationProtected", False) or self.has_three_masters
        self.concurrency: int = request.get("StepConcurrencyLevel", 1)
        self.auto_termination: Mapping[str, Any] | None = request.get("AutoTerminationPolicy")
        self.managed_scaling: Mapping[str, Any] | None = request.get("ManagedScalingPolicy")
        self.tags: dict[str, str] = {tag["Key"]: tag.get("Value", "") for tag in request.get("Tags") or []}
        self.state = "STARTING"
        self.reason: tuple[str | None, str] = (None, "Provisioning capacity")
        self.termination: Termination | None = None
        self.created = datetime.now(UTC)
        self.ready: datetime | None = None
        self.ended: datetime | None = None
        self.idle_since: datetime | None = None
        self.lost_instances: dict[str, dict[str, str]] = {}
        self.steps: list[Step] = []
        self._earlier: list[tuple[float, str, tuple[str | None, str]]] = []  # until when, state, reason
        role = request.get("StepExecutionRoleArn")
        steps = request.get("Steps") or []
        self._append_steps([{**step, "ExecutionRoleArn": role} for step in steps] if role else steps)

    @property
    def log_uri(self) -> str:
        """URI of its logs; empty if it delivers none."""
        return str(self.request.get("LogUri") or "")

    def step(self, step_id: object) -> Step:
        """Return one of its steps.

        Raises
        ------
        InvalidRequestError
            If it has no such step.
        """
        for step in self.steps:
            if step.id == step_id:
                return step
        raise unknown_step(step_id)

    def status_before(self, seconds: float) -> tuple[str, tuple[str | None, str]]:
        """Return the state and its reason as they were some seconds ago; the first ones for a younger cluster."""
        moment = time.monotonic() - seconds
        for until, state, reason in self._earlier:
            if until > moment:
                return state, reason
        return self.state, self.reason

    def active_steps(self) -> list[Step]:
        """Return the steps that have not ended."""
        return [step for step in self.steps if step.active]

    def _enter(self, state: str, message: str, code: str | None = None) -> None:
        if state != self.state:
            logger.info("%s %r is %s: %s", self.id, self.name, state, message)
            self._earlier.append((time.monotonic(), self.state, self.reason))
        self.state = state
        self.reason = (code, message)

    def _append_steps(self, configs: Sequence[Mapping[str, Any]]) -> list[Step]:
        # By default a failed step terminates the cluster. EMR does not allow that with concurrent steps.
        default = "TERMINATE_CLUSTER" if self.concurrency == 1 else "CONTINUE"
        added = [Step(config, config.get("ActionOnFailure") or default) for config in configs]
        self.steps += added
        return added

    def _cancel_pending_steps(self, reason: str) -> None:
        for step in self.steps:
            if step.state == "PENDING":
                self._cancel_pending_step(step, reason)

    @staticmethod
    def _cancel_pending_step(step: Step, reason: str) -> None:
        step.state = "CANCELLED"
        step.reason = reason
        step.ended = datetime.now(UTC)
