"""A cluster's life: it starts, runs its steps in order, waits, and ends.

Its life outlasts the endpoint's. What happens when the endpoint goes, told to or killed, follows from this: a local
cluster's nodes are the processes of its steps, and they end with the endpoint.

- A cluster whose step ran has lost its primary node, where the driver is. As on EMR it is TERMINATED_WITH_ERRORS
  (INSTANCE_FAILURE), its pending steps are CANCELLED, and the step that ran is FAILED with a reason.
- A cluster whose steps had all ended, or that had not started one, has lost nothing. It goes on with the next
  endpoint: it starts, waits, takes steps, and its idle time counts on, the time without an endpoint included. So it
  ends by itself even when who made it is gone, as far as it has an auto-termination policy.
- A cluster that was ending has ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from moto.emr.utils import random_cluster_id

from local.emr.clusters import instances, validation
from local.emr.clusters.endings import (
    BROKEN,
    BY_USER,
    IDLE,
    INSTANCE_LOSS,
    LEFT,
    NODE_LOST,
    SPOT_LOSS,
    STEP_FAILED,
    STEPS_COMPLETED,
    STEPS_COMPLETED_WITH_ERRORS,
    Ending,
    bootstrap_failed,
    of_work,
    out_of_capacity,
)
from local.emr.clusters.errors import InvalidRequestError, ValidationError, unknown_step
from local.emr.clusters.records import CLUSTER_FIELDS, CLUSTER_TIMES, restore_step, restore_times
from local.emr.faults.faults import Faults
from local.emr.faults.scenario import ClusterFault
from local.emr.faults.triggers import Trigger
from local.emr.options import Options
from local.emr.spark.logs import NAMES, Courier, log_folder
from local.emr.spark.steps import Outcome, Step, StepRun

logger = logging.getLogger(__name__)

ENDED_STATES = ("TERMINATED", "TERMINATED_WITH_ERRORS")
ENDING_STATES = ("TERMINATING", *ENDED_STATES)
STARTED_STATES = ("RUNNING", "CANCEL_PENDING")
"""States of a step that has processes."""


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
    save : callable
        Called with the cluster after each change, while its lock is held. It saves the cluster in the journal.
    description : mapping, optional
        The result of :func:`local.emr.clusters.records.describe_cluster` for the cluster of an earlier endpoint with
        the same id. The steps that ran then are lost; see :meth:`start`.
    cluster_id : str, optional
        Its id; a new one by default.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        *,
        region: str,
        account: str,
        options: Options,
        faults: Faults,
        save: Callable[[Cluster], None],
        cluster_id: str | None = None,
        description: Mapping[str, Any] | None = None,
    ) -> None:
        instances = request.get("Instances") or {}
        self.id = cluster_id or random_cluster_id()
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
        self.idle_since: datetime | None = None
        self.ending: Ending | None = None
        self.lost_instances: dict[str, dict[str, str]] = {}
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._options = options
        self._faults = faults
        self._save = save
        self._left = False
        self._idle_from: float | None = None  # idle_since on the clock that nobody sets
        self._append(request.get("Steps") or [])
        if description is not None:
            self._restore(description)
        self._thread: threading.Thread | None = None

    @property
    def log_uri(self) -> str:
        """Where its logs go; empty for nowhere."""
        return str(self.request.get("LogUri") or "")

    def _restore(self, description: Mapping[str, Any]) -> None:
        for name in CLUSTER_FIELDS:
            setattr(self, name, description[name])
        for name, moment in restore_times(description, CLUSTER_TIMES).items():
            setattr(self, name, moment)
        code, message = description["reason"]
        self.reason = (code, message)
        self.ending = Ending(**description["ending"]) if description["ending"] else None
        self.steps = [restore_step(step_id, step) for step_id, step in description["steps"].items()]
        if self.idle_since is not None:
            idle_seconds = (datetime.now(UTC) - self.idle_since).total_seconds()
            self._idle_from = time.monotonic() - max(0.0, idle_seconds)

    def start(self) -> None:
        """Begin its life, or go on with it where an earlier endpoint left it; nothing happens when it has ended."""
        if self.state in ENDED_STATES:
            return
        lost = [step for step in self.steps if step.state in STARTED_STATES]
        with self._change():
            if lost:
                self._end(LEFT)
            for step in lost:
                step.run = self._run_of(step)
                self._settle(step, Outcome("CANCELLED", log_file=step.run.log_file))
        self._thread = threading.Thread(target=self._live, args=(lost,), name=f"cluster {self.id}", daemon=True)
        self._thread.start()

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Hold the cluster; what was changed then lasts, and whoever waits for a change looks."""
        with self._changed:
            try:
                yield
            finally:
                self._save(self)
                self._changed.notify_all()

    # What requests ask for

    def add_steps(self, configs: Sequence[Mapping[str, Any]]) -> list[Step]:
        """Append steps.

        Raises
        ------
        ValidationError
            When the cluster is ending or has ended, or when a step is not one that EMR takes.
        """
        with self._change():
            if self.state in ENDING_STATES:
                raise ValidationError("A job flow that is shutting down, terminated, or finished may not be modified.")
            validation.check_steps(configs, self.concurrency, active=len(self._active()))
            return self._append(configs)

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
        with self._change():
            if self.state in ENDING_STATES:
                raise InvalidRequestError(
                    f"Cluster '{self.id}' is in state {self.state}: its steps cannot be cancelled."
                )
            return [self._cancel(self.step(step_id), kill=kill) for step_id in step_ids]

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
        with self._change():
            for name, value in changes.items():
                setattr(self, name, value)

    def tag(self, tags: Mapping[str, str], *, remove: Sequence[str] = ()) -> None:
        """Set tags, and remove others by their keys."""
        with self._change():
            self.tags = {key: value for key, value in {**self.tags, **tags}.items() if key not in remove}

    def leave(self) -> None:
        """Stop being this endpoint's: end it if a step runs, else let it be, for the next endpoint to go on with."""
        with self._change():
            self._left = True
            if any(step.state in STARTED_STATES for step in self.steps):
                self._end(LEFT)

    def join(self) -> None:
        """Wait until it has ended, or was left, and none of its processes is left."""
        if self._thread is not None:
            self._thread.join()

    # What its own thread does

    def _live(self, lost: Sequence[Step]) -> None:
        try:
            for step in lost:
                if step.run is not None:
                    step.run.conclude("the endpoint that ran this step has ended, and the step with it")
            self._boot()
            self._work()
        except Exception:
            # Nobody else sees this thread: without this the cluster would look alive for ever.
            logger.exception("cluster %s broke", self.id)
            self._end(BROKEN)
        self._close()

    def _boot(self) -> None:
        phase_seconds = self._options.shorten(self._options.boot_seconds / 2)
        with self._change():
            if self.ready is not None:
                return
            self._changed.wait_for(self._is_over, timeout=phase_seconds)
            self._ask_for_capacity()
            if not self._is_over():
                self._enter("BOOTSTRAPPING", "Running bootstrap actions")
                self._save(self)
                self._changed.wait_for(self._is_over, timeout=phase_seconds)
            self._bootstrap()
            if not self._is_over():
                self.ready = datetime.now(UTC)

    def _ask_for_capacity(self) -> None:
        fault = None if self._is_over() else self._faults.for_capacity(self.name)
        if fault is None:
            return
        self._changed.wait_for(self._is_over, timeout=self._options.shorten(fault.after_seconds))
        wanted = instances.describe(self)[-1]["InstanceType"]
        self._end(out_of_capacity(fault, wanted, f"{self.region}a"))

    def _bootstrap(self) -> None:
        fault = None if self._is_over() else self._faults.for_bootstrap(self.name)
        if fault is None:
            return
        self._changed.wait_for(self._is_over, timeout=self._options.shorten(fault.after_seconds))
        instance_id = instances.primary(self)["Ec2InstanceId"]
        self._log_bootstrap(fault, instance_id)
        self._end(bootstrap_failed(fault, instance_id))

    def _log_bootstrap(self, fault: ClusterFault, instance_id: str) -> None:
        """Deliver what the bootstrap action that failed has printed."""
        folder = self._options.state_dir / "clusters" / self.id / "bootstrap"
        folder.mkdir(parents=True, exist_ok=True)
        controller = f"INFO waitProcessCompletion ended with exit code {fault.exit_code}\n"
        for name, text in zip(NAMES, (fault.stdout, fault.stderr, controller), strict=True):
            (folder / name).write_text(text, encoding="utf-8")
        if self.log_uri:
            place = log_folder(self.log_uri, self.id, "node", instance_id, "bootstrap-actions", "1")
            files = {name: folder / name for name in NAMES}
            Courier(self.name, self._options, self._faults).deliver(files, place)

    def _is_over(self) -> bool:
        """Whether this endpoint has nothing more to do for it but to wait for what still runs."""
        return self.ending is not None or self._left

    def _work(self) -> None:
        with self._changed:
            while not self._is_over():
                self._start_due_steps()
                self._follow_steps()
                self._save(self)
                if not self._is_over():
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
            self._idle_from = self.idle_since = None
            self._enter("RUNNING", "Running step")
        elif self.keep_alive or self.termination_protected:
            if self._idle_from is None:
                self._idle_from, self.idle_since = time.monotonic(), datetime.now(UTC)
            self._enter("WAITING", "Cluster ready to run steps.")
        else:
            failed = any(step.state == "FAILED" for step in self.steps)
            self._end(STEPS_COMPLETED_WITH_ERRORS if failed else STEPS_COMPLETED)

    def _timers(self) -> list[tuple[float, Ending]]:
        """Return when what would end it, on the monotonic clock."""
        timers = []
        if self._idle_from is not None and self.auto_termination and not self.termination_protected:
            timers.append((self._idle_from + self._options.shorten(self.auto_termination["IdleTimeout"]), IDLE))
        return timers

    def _seconds_to_next_timer(self) -> float | None:
        timers = self._timers()
        return max(0.0, min(when for when, _ in timers) - time.monotonic()) if timers else None

    def _act_on_timers(self) -> None:
        if self._left:
            return
        for when, ending in sorted(self._timers(), key=lambda timer: timer[0]):
            # A step that came in at the last moment saves an idle cluster.
            if when <= time.monotonic() and not (ending is IDLE and self._active()):
                self._end(ending)

    def _start(self, step: Step) -> None:
        step.state = "RUNNING"
        step.started = datetime.now(UTC)
        fault = self._faults.for_work(self.name)
        triggers = [Trigger(fault, lambda _: self._end(of_work(fault)))] if fault is not None else []
        step.run = self._run_of(step, triggers)
        self._save(self)  # before it runs: a step must not run again because nobody remembers that it did
        logger.info("%s %s %r starts", self.id, step.id, step.name)
        threading.Thread(target=self._run, args=(step, step.run), name=f"step {step.id}", daemon=True).start()

    def _run_of(self, step: Step, triggers: Sequence[Trigger] = ()) -> StepRun:
        begun = int(self.created.timestamp() * 1000)
        return StepRun(
            step.id,
            step.name,
            step.argv,
            cluster_id=self.id,
            log_uri=self.log_uri,
            options=self._options,
            faults=self._faults,
            cluster_name=self.name,
            application=f"application_{begun}_{self.steps.index(step) + 1:04d}",
            triggers=triggers,
            lose_instance=self.lose_instance,
        )

    def lose_instance(self) -> None:
        """Lose a worker, for good: what fleets put in its place is not recorded."""
        with self._change():
            lost = instances.next_to_lose(self)
            if lost is not None:
                message = SPOT_LOSS if lost["Market"] == "SPOT" else INSTANCE_LOSS
                record = {"at": datetime.now(UTC).isoformat(), "message": message}
                self.lost_instances = {**self.lost_instances, lost["Id"]: record}
                logger.info("%s %s is lost", self.id, lost["Ec2InstanceId"])

    def _run(self, step: Step, run: StepRun) -> None:
        try:
            outcome = run.execute()
        except Exception as error:
            # Nobody else sees this thread: without this the step would run for ever.
            logger.exception("step %s broke", step.id)
            outcome = Outcome("FAILED", f"The endpoint could not run the step: {error}")
        with self._change():
            self._settle(step, outcome)

    def _settle(self, step: Step, outcome: Outcome) -> None:
        if (
            self.ending is not None
            and self.ending.step_failure
            and step.state == "RUNNING"
            and outcome.state == "CANCELLED"
        ):
            # It was ended, and nobody had asked for that.
            outcome = Outcome("FAILED", self.ending.step_failure, outcome.log_file, cause=NODE_LOST)
        step.state = outcome.state
        step.outcome = outcome
        step.ended = datetime.now(UTC)
        logger.info("%s %s %r is %s %s", self.id, step.id, step.name, step.state, outcome.message)
        if step.state != "FAILED" or self.ending is not None:
            return
        if step.action_on_failure == "CANCEL_AND_WAIT" or (
            step.action_on_failure != "CONTINUE" and self.termination_protected
        ):
            self._drop_pending("Cancelled because an earlier step failed")
        elif step.action_on_failure != "CONTINUE":
            self._end(STEP_FAILED)

    def _end(self, ending: Ending) -> None:
        with self._change():
            if self.ending is not None:
                return
            self.ending = ending
            self._enter("TERMINATING", ending.message, ending.code)
            self._drop_pending("Job terminated")
            for step in self._active():
                if not ending.step_failure:
                    step.reason = "Job terminated"
                if step.run is not None:
                    step.run.stop(kill=True)

    def _close(self) -> None:
        with self._change():
            self._changed.wait_for(lambda: self.ending is None or not self._active())
            if self.ending is not None:
                self._enter(self.ending.state, self.ending.message, self.ending.code)
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
