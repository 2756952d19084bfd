"""A cluster's life: it starts, runs its steps in order, waits, and ends."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.emr.utils import random_cluster_id

from include.local_emr import validation
from include.local_emr.errors import InvalidRequestError, ValidationError, unknown_cluster, unknown_step
from include.local_emr.faults import Faults
from include.local_emr.options import Options
from include.local_emr.steps import Outcome, Step, StepRun

logger = logging.getLogger(__name__)

ENDED_STATES = ("TERMINATED", "TERMINATED_WITH_ERRORS")
ENDING_STATES = ("TERMINATING", *ENDED_STATES)


@dataclass(frozen=True)
class Ending:
    """Why a cluster ends, and in which state."""

    state: str
    code: str
    message: str


BY_USER = Ending("TERMINATED", "USER_REQUEST", "Terminated by user request")
STEPS_COMPLETED = Ending("TERMINATED", "ALL_STEPS_COMPLETED", "Steps completed")
STEPS_COMPLETED_WITH_ERRORS = Ending("TERMINATED", "ALL_STEPS_COMPLETED", "Steps completed with errors")
STEP_FAILED = Ending("TERMINATED_WITH_ERRORS", "STEP_FAILURE", "Shut down as step failed")
# EMR's own code for this is not published; the reasons' enumeration has none of its own for it.
IDLE = Ending("TERMINATED", "ALL_STEPS_COMPLETED", "Terminated by the auto-termination policy: the cluster was idle")
BOOTSTRAP_FAILED = Ending(
    "TERMINATED_WITH_ERRORS",
    "BOOTSTRAP_FAILURE",
    "On the master instance, bootstrap action 1 returned a non-zero return code",
)
LOST = Ending("TERMINATED_WITH_ERRORS", "INSTANCE_FAILURE", "The master node was lost")
BROKEN = Ending("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR", "The endpoint failed: see its log")


class Cluster:
    """One cluster. Its thread moves it on; requests come from other threads.

    Parameters
    ----------
    request : mapping
        The RunJobFlow request, already checked.
    region, account : str
        Where it was made, and whose it is.
    options : Options
        The endpoint's settings.
    faults : Faults
        What is to go wrong.
    """

    def __init__(
        self, request: Mapping[str, Any], *, region: str, account: str, options: Options, faults: Faults
    ) -> None:
        instances = request.get("Instances") or {}
        self.id = random_cluster_id()
        self.request = request
        self.region = region
        self.account = account
        self.name = str(request["Name"])
        self.keep_alive: bool = instances.get("KeepJobFlowAliveWhenNoSteps", False)
        self.termination_protected: bool = instances.get("TerminationProtected", False)
        self.concurrency: int = request.get("StepConcurrencyLevel", 1)
        self.auto_termination: Mapping[str, Any] | None = request.get("AutoTerminationPolicy")
        self.managed_scaling: Mapping[str, Any] | None = request.get("ManagedScalingPolicy")
        self.tags: dict[str, str] = {tag["Key"]: tag.get("Value", "") for tag in request.get("Tags") or []}
        self.steps: list[Step] = []
        self.state = "STARTING"
        self.reason: tuple[str | None, str] = (None, "Provisioning capacity")
        self.created = datetime.now(UTC)
        self.ready: datetime | None = None
        self.ended: datetime | None = None
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._options = options
        self._faults = faults
        self._ending: Ending | None = None
        self._lost_at: float | None = None
        self._idle_since: float | None = None
        self._append(request.get("Steps") or [])
        self._thread = threading.Thread(target=self._live, name=f"cluster {self.id}", daemon=True)

    @property
    def log_uri(self) -> str:
        """Where its logs go; empty for nowhere."""
        return str(self.request.get("LogUri") or "")

    def start(self) -> None:
        """Begin its life."""
        self._thread.start()

    # What requests ask for

    def add_steps(self, configs: Sequence[Mapping[str, Any]]) -> list[Step]:
        """Append steps.

        Raises
        ------
        ValidationError
            When the cluster is ending or has ended, or when a step is not one that EMR takes.
        """
        with self._changed:
            if self.state in ENDING_STATES:
                raise ValidationError("A job flow that is shutting down, terminated, or finished may not be modified.")
            validation.check_steps(configs, self.concurrency, active=len(self._active()))
            added = self._append(configs)
            self._changed.notify_all()
            return added

    def step(self, step_id: object) -> Step:
        """Return one of its steps.

        Raises
        ------
        InvalidRequestError
            When it has no such step.
        """
        for step in self.steps:
            if step.id == step_id:
                return step
        raise unknown_step(step_id)

    def cancel_steps(self, step_ids: Sequence[str], *, kill: bool) -> list[tuple[str, str, str]]:
        """Cancel steps; return (step id, SUBMITTED or FAILED, reason) for each.

        Raises
        ------
        InvalidRequestError
            When it has no such step, or when it has ended.
        """
        with self._changed:
            if self.state in ENDING_STATES:
                raise InvalidRequestError(
                    f"Cluster '{self.id}' is in state {self.state}: its steps cannot be cancelled."
                )
            answers = [self._cancel(self.step(step_id), kill=kill) for step_id in step_ids]
            self._changed.notify_all()
            return answers

    def _cancel(self, step: Step, *, kill: bool) -> tuple[str, str, str]:
        if not step.active:
            return step.id, "FAILED", f"The step is already in the terminal state {step.state}."
        if step.state == "PENDING":
            self._drop(step, "Cancelled by user")
        elif step.run is not None:
            step.state = "CANCEL_PENDING"
            step.reason = "Cancelled by user"
            step.run.stop(kill=kill)
        return step.id, "SUBMITTED", ""

    def terminate(self) -> None:
        """End it, running steps included; nothing happens when it is ending already."""
        self._end(BY_USER)

    def configure(self, **changes: Any) -> None:
        """Set attributes (``keep_alive``, ``termination_protected``, ``concurrency``, policies) and act on them."""
        with self._changed:
            for name, value in changes.items():
                setattr(self, name, value)
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until it has ended and none of its processes is left."""
        self._thread.join()

    # What its own thread does

    def _live(self) -> None:
        try:
            self._boot()
            self._work()
        except Exception:
            # Nobody else sees this thread: without this the cluster would look alive for ever.
            logger.exception("cluster %s broke", self.id)
            self._end(BROKEN)
        self._close()

    def _boot(self) -> None:
        phase_seconds = self._options.shorten(self._options.boot_seconds / 2)
        with self._changed:
            self._changed.wait_for(self._is_ending, timeout=phase_seconds)
            if self._ending is None:
                self._enter("BOOTSTRAPPING", "Running bootstrap actions")
                self._changed.wait_for(self._is_ending, timeout=phase_seconds)
            if self._ending is None and self._faults.for_bootstrap(self.name):
                self._end(BOOTSTRAP_FAILED)
            if self._ending is None:
                self.ready = datetime.now(UTC)

    def _is_ending(self) -> bool:
        return self._ending is not None

    def _work(self) -> None:
        with self._changed:
            while self._ending is None:
                self._start_due_steps()
                self._follow_steps()
                if self._ending is None:
                    self._changed.wait(self._seconds_to_next_timer())
                    self._act_on_timers()

    def _start_due_steps(self) -> None:
        started = [step for step in self._active() if step.state != "PENDING"]
        pending = [step for step in self.steps if step.state == "PENDING"]
        for step in pending[: max(0, self.concurrency - len(started))]:
            self._start(step)

    def _follow_steps(self) -> None:
        """Move between RUNNING and WAITING, or end when there is nothing left to wait for."""
        if self._active():
            self._idle_since = None
            self._enter("RUNNING", "Running step")
        elif self.keep_alive or self.termination_protected:
            if self._idle_since is None:
                self._idle_since = time.monotonic()
            self._enter("WAITING", "Cluster ready to run steps.")
        else:
            failed = any(step.state == "FAILED" for step in self.steps)
            self._end(STEPS_COMPLETED_WITH_ERRORS if failed else STEPS_COMPLETED)

    def _timers(self) -> list[tuple[float, Ending]]:
        """Return when what would end it, on the monotonic clock."""
        timers = []
        if self._lost_at is not None:
            timers.append((self._lost_at, LOST))
        if self._idle_since is not None and self.auto_termination and not self.termination_protected:
            timers.append((self._idle_since + self._options.shorten(self.auto_termination["IdleTimeout"]), IDLE))
        return timers

    def _seconds_to_next_timer(self) -> float | None:
        timers = self._timers()
        return max(0.0, min(when for when, _ in timers) - time.monotonic()) if timers else None

    def _act_on_timers(self) -> None:
        for when, ending in sorted(self._timers(), key=lambda timer: timer[0]):
            # A step that came in at the last moment saves an idle cluster.
            if when <= time.monotonic() and not (ending is IDLE and self._active()):
                self._end(ending)

    def _start(self, step: Step) -> None:
        step.state = "RUNNING"
        step.started = datetime.now(UTC)
        step.run = StepRun(
            step.id,
            step.name,
            step.argv,
            cluster_id=self.id,
            log_uri=self.log_uri,
            options=self._options,
            faults=self._faults,
        )
        fault = self._faults.for_work(self.name)
        if fault is not None:
            self._lost_at = time.monotonic() + self._options.shorten(fault.after_seconds)
        logger.info("%s %s %r starts", self.id, step.id, step.name)
        threading.Thread(target=self._run, args=(step, step.run), name=f"step {step.id}", daemon=True).start()

    def _run(self, step: Step, run: StepRun) -> None:
        try:
            outcome = run.execute()
        except Exception as error:
            # Nobody else sees this thread: without this the step would run for ever.
            logger.exception("step %s broke", step.id)
            outcome = Outcome("FAILED", f"The endpoint could not run the step: {error}")
        with self._changed:
            self._settle(step, outcome)
            self._changed.notify_all()

    def _settle(self, step: Step, outcome: Outcome) -> None:
        step.state = outcome.state
        step.outcome = outcome
        step.ended = datetime.now(UTC)
        logger.info("%s %s %r is %s %s", self.id, step.id, step.name, step.state, outcome.message)
        if step.state != "FAILED" or self._ending is not None:
            return
        if step.action_on_failure == "CANCEL_AND_WAIT" or (
            step.action_on_failure != "CONTINUE" and self.termination_protected
        ):
            self._drop_pending("Cancelled because an earlier step failed")
        elif step.action_on_failure != "CONTINUE":
            self._end(STEP_FAILED)

    def _end(self, ending: Ending) -> None:
        with self._changed:
            if self._ending is not None:
                return
            self._ending = ending
            self._enter("TERMINATING", ending.message, ending.code)
            self._drop_pending("Job terminated")
            for step in self._active():
                step.reason = "Job terminated"
                if step.run is not None:
                    step.run.stop(kill=True)
            self._changed.notify_all()

    def _close(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._active())
            if self._ending is not None:
                self._enter(self._ending.state, self._ending.message, self._ending.code)
            self.ended = datetime.now(UTC)

    def _append(self, configs: Sequence[Mapping[str, Any]]) -> list[Step]:
        # EMR ends the cluster unless told otherwise, and cannot be told so when steps run side by side.
        default = "TERMINATE_CLUSTER" if self.concurrency == 1 else "CONTINUE"
        added = [Step(config, config.get("ActionOnFailure") or default) for config in configs]
        self.steps += added
        return added

    def _active(self) -> list[Step]:
        return [step for step in self.steps if step.active]

    def _drop_pending(self, reason: str) -> None:
        for step in self.steps:
            if step.state == "PENDING":
                self._drop(step, reason)

    def _drop(self, step: Step, reason: str) -> None:
        step.state = "CANCELLED"
        step.reason = reason
        step.ended = datetime.now(UTC)

    def _enter(self, state: str, message: str, code: str | None = None) -> None:
        if state != self.state:
            logger.info("%s %r is %s: %s", self.id, self.name, state, message)
        self.state = state
        self.reason = (code, message)


class Registry:
    """Every cluster of the endpoint, by region."""

    def __init__(self, options: Options, faults: Faults) -> None:
        self.options = options
        self.faults = faults
        self._lock = threading.Lock()
        self._clusters: dict[str, Cluster] = {}
        self._closed = False

    def run(self, request: Mapping[str, Any], *, region: str, account: str) -> Cluster:
        """Start a cluster.

        Raises
        ------
        ValidationError
            When EMR would reject the request, or when the endpoint is stopping.
        """
        validation.check_run_job_flow(request, region)
        cluster = Cluster(request, region=region, account=account, options=self.options, faults=self.faults)
        with self._lock:
            if self._closed:
                raise ValidationError("The endpoint is stopping.")
            self._clusters[cluster.id] = cluster
            cluster.start()
        logger.info("%s %r starts in %s", cluster.id, cluster.name, region)
        return cluster

    def get(self, cluster_id: object, region: str) -> Cluster:
        """Return a cluster of a region.

        Raises
        ------
        InvalidRequestError
            When there is none of that id.
        """
        cluster = self._clusters.get(str(cluster_id))
        if cluster is None or cluster.region != region:
            raise unknown_cluster(cluster_id)
        return cluster

    def all(self, region: str, keep: Callable[[Cluster], bool] = lambda cluster: True) -> list[Cluster]:
        """Return a region's clusters, the newest first."""
        with self._lock:
            clusters = [cluster for cluster in self._clusters.values() if cluster.region == region and keep(cluster)]
        return clusters[::-1]

    def close(self) -> None:
        """End every cluster with all its processes, and take no more."""
        with self._lock:
            self._closed = True
            clusters = list(self._clusters.values())
        for cluster in clusters:
            cluster.terminate()
        for cluster in clusters:
            cluster.join()
