"""The steps of a cluster: added, started, cancelled, and their outcomes, which may terminate the cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from local.emr.clusters import instances, limits, validation
from local.emr.clusters.cluster_state import TERMINATION_STATES, ClusterState
from local.emr.clusters.errors import InvalidRequestError, modified_after_end
from local.emr.clusters.terminations import (
    INSTANCE_FAILURE,
    PRIMARY_NODE_LOST_REASON,
    SPOT_INTERRUPTION,
    STEP_FAILURE,
    Termination,
    during_step,
)
from local.emr.faults.faults import Faults
from local.emr.faults.scenario import ClusterFault
from local.emr.faults.triggers import Trigger
from local.emr.options import Options
from local.emr.spark.step_outcome import Outcome
from local.emr.spark.step_run import StepRun
from local.emr.spark.steps import Step

logger = logging.getLogger(__name__)


class ClusterSteps(ClusterState):
    """A cluster's state and the threads that run its steps. Each change is saved, and reported to waiting threads.

    Parameters
    ----------
    request, region, account, cluster_id
        See :class:`~local.emr.clusters.cluster_state.ClusterState`.
    options : Options
        The endpoint's settings.
    faults : Faults
        The faults to inject.
    save : callable
        Called with the cluster after each change, while its lock is held. It saves the cluster in the journal.

    Attributes
    ----------
    lock : RLock
        Guards the state.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        *,
        region: str,
        account: str,
        options: Options,
        faults: Faults,
        save: Callable[[ClusterState], None],
        cluster_id: str | None = None,
    ) -> None:
        super().__init__(request, region=region, account=account, cluster_id=cluster_id)
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._options = options
        self._faults = faults
        self._save = save

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Hold the lock for a change; then save the cluster and notify the threads that wait for a change."""
        with self._changed:
            try:
                yield
            finally:
                self._save(self)
                self._changed.notify_all()

    @property
    def is_listed(self) -> bool:
        """Whether ListClusters lists it already."""
        return (datetime.now(UTC) - self.created).total_seconds() >= self._staleness_seconds

    @property
    def visible_status(self) -> tuple[str, tuple[str | None, str]]:
        """Its state and the reason as the API describes them: those of a while ago if answers are stale."""
        return self.status_before(self._staleness_seconds)

    @property
    def _staleness_seconds(self) -> float:
        return self._options.shorten(self._options.staleness_seconds)

    def add_steps(self, configs: Sequence[Mapping[str, Any]]) -> list[Step]:
        """Append steps.

        Raises
        ------
        ValidationError
            If the cluster terminates or has ended, or if EMR would reject a step.
        """
        with self._change():
            if self.state in TERMINATION_STATES:
                raise modified_after_end()
            validation.check_steps(configs, self.concurrency, active=len(self.active_steps()))
            return self._append_steps(configs)

    def cancel_steps(self, step_ids: Sequence[str], *, kill: bool) -> list[tuple[str, str, str]]:
        """Cancel steps; return (step id, SUBMITTED or FAILED, reason) for each.

        Raises
        ------
        InvalidRequestError
            If it has no such step, or if it terminates or has ended.
        """
        with limits.invalid_request():
            limits.check_ids("StepIds", step_ids, limit=limits.MAX_CANCELLED_STEPS)
        with self._change():
            if self.state in TERMINATION_STATES:
                raise InvalidRequestError(
                    f"Cluster '{self.id}' is in state {self.state}: its steps cannot be cancelled."
                )
            return [self._cancel(self.step(step_id), kill=kill) for step_id in step_ids]

    def _cancel(self, step: Step, *, kill: bool) -> tuple[str, str, str]:
        if not step.active:
            return step.id, "FAILED", f"The step is already in the terminal state {step.state}."
        if step.state == "PENDING":
            self._cancel_pending_step(step, "Cancelled by user")
        elif step.run is not None:
            step.state = "CANCEL_PENDING"
            step.reason = "Cancelled by user"
            step.run.stop(kill=kill)
        return step.id, "SUBMITTED", ""

    def lose_instance(self) -> None:
        """Lose a worker. The instance that EMR would put in its place is not recorded."""
        with self._change():
            lost = instances.next_to_lose(self)
            if lost is not None:
                message = SPOT_INTERRUPTION if lost["Market"] == "SPOT" else INSTANCE_FAILURE
                record = {"at": datetime.now(UTC).isoformat(), "message": message}
                self.lost_instances = {**self.lost_instances, lost["Id"]: record}
                logger.info("%s %s is lost", self.id, lost["Ec2InstanceId"])

    def _start_due_steps(self) -> None:
        started = [step for step in self.active_steps() if step.state != "PENDING"]
        pending = [step for step in self.steps if step.state == "PENDING"]
        for step in pending[: max(0, self.concurrency - len(started))]:
            self._start_step(step)

    def _start_step(self, step: Step) -> None:
        step.state = "RUNNING"
        step.started = datetime.now(UTC)
        fault = self._faults.for_running_cluster(self.name)
        triggers = [Trigger(fault, lambda _: self._apply(fault))] if fault is not None else []
        step.run = self._step_run(step, triggers)
        self._save(self)  # before it runs: a restarted endpoint must not run it again
        logger.info("%s %s %r starts", self.id, step.id, step.name)
        threading.Thread(target=self._run_step, args=(step, step.run), name=f"step {step.id}", daemon=True).start()

    def _apply(self, fault: ClusterFault) -> None:
        if fault.fails == "protected":
            with self._change():
                self.termination_protected = True
        else:
            self._terminate(during_step(fault))

    def _step_run(self, step: Step, triggers: Sequence[Trigger] = ()) -> StepRun:
        created_ms = int(self.created.timestamp() * 1000)
        return StepRun(
            step.id,
            step.name,
            step.argv,
            cluster_id=self.id,
            log_uri=self.log_uri,
            options=self._options,
            faults=self._faults,
            cluster_name=self.name,
            application=f"application_{created_ms}_{self.steps.index(step) + 1:04d}",
            triggers=triggers,
            lose_instance=self.lose_instance,
        )

    def _run_step(self, step: Step, run: StepRun) -> None:
        try:
            outcome = run.execute()
        except Exception as error:
            # No other code sees an exception of this thread: the step would stay RUNNING.
            logger.exception("step %s failed in the endpoint", step.id)
            outcome = Outcome("FAILED", f"The endpoint could not run the step: {error}")
        with self._change():
            self._record_outcome(step, outcome)

    def _record_outcome(self, step: Step, outcome: Outcome) -> None:
        termination = self.termination
        stopped_without_request = step.state == "RUNNING" and outcome.state == "CANCELLED"
        if termination is not None and termination.step_failure and stopped_without_request:
            outcome = Outcome("FAILED", termination.step_failure, outcome.log_file, cause=PRIMARY_NODE_LOST_REASON)
        step.state = outcome.state
        step.outcome = outcome
        step.ended = datetime.now(UTC)
        logger.info("%s %s %r is %s %s", self.id, step.id, step.name, step.state, outcome.message)
        if step.state == "FAILED" and termination is None:
            self._act_on_failure(step.action_on_failure)

    def _act_on_failure(self, action: str) -> None:
        if action == "CONTINUE":
            return
        if action == "CANCEL_AND_WAIT" or self.termination_protected:
            self._cancel_pending_steps("Cancelled because an earlier step failed")
        else:
            self._terminate(STEP_FAILURE)

    def _terminate(self, termination: Termination) -> None:
        """Begin to terminate: cancel the pending steps and stop the running ones. The first call counts."""
        with self._change():
            if self.termination is not None:
                return
            self.termination = termination
            self._enter("TERMINATING", termination.message, termination.code)
            self._cancel_pending_steps("Job terminated")
            for step in self.active_steps():
                if not termination.step_failure:
                    step.reason = "Job terminated"
                if step.run is not None:
                    step.run.stop(kill=True)
