"""The life of a cluster: it starts, runs its steps in order, waits, and terminates.

A cluster can outlive its endpoint. The nodes of a local cluster are the processes of its steps, which stop with the
endpoint, whether it exits or is killed. Therefore the next endpoint with the same state directory continues as follows:

- A cluster with a running step has lost its primary node, where the driver runs. As on EMR it is
  TERMINATED_WITH_ERRORS (INSTANCE_FAILURE), its pending steps are CANCELLED, and the step that ran is FAILED.
- A cluster without a running step has lost nothing. It continues: it starts, waits and accepts steps. The time without
  an endpoint counts as idle, so a cluster with an auto-termination policy terminates even if its owner is gone.
- A cluster that was TERMINATING has terminated.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from local.emr.clusters import bootstrap, instances
from local.emr.clusters.cluster_state import ENDED_STATES, STARTED_STATES, ClusterState
from local.emr.clusters.cluster_steps import ClusterSteps
from local.emr.clusters.records import restore_cluster
from local.emr.clusters.terminations import (
    ENDPOINT_STOPPED,
    IDLE_TIMEOUT,
    INTERNAL_ERROR,
    STEPS_COMPLETED,
    STEPS_COMPLETED_WITH_ERRORS,
    USER_REQUEST,
    bootstrap_failed,
    out_of_capacity,
)
from local.emr.faults.faults import Faults
from local.emr.options import Options
from local.emr.spark.step_outcome import Outcome
from local.emr.spark.steps import Step

logger = logging.getLogger(__name__)


class Cluster(ClusterSteps):
    """One cluster. Its thread changes its state; requests come from other threads.

    Parameters
    ----------
    request, region, account, options, faults, save, cluster_id
        See :class:`~local.emr.clusters.cluster_steps.ClusterSteps`.
    description : mapping, optional
        The description that :func:`local.emr.clusters.records.describe_cluster` returned for the cluster of an earlier
        endpoint with the same id. The steps that ran then are lost; see :meth:`start`.
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
        description: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            request, region=region, account=account, options=options, faults=faults, save=save, cluster_id=cluster_id
        )
        self._thread: threading.Thread | None = None
        self._detached = False
        self._idle_from: float | None = None  # idle_since on the monotonic clock
        if description is not None:
            restore_cluster(self, description)
        if self.idle_since is not None:
            idle_seconds = (datetime.now(UTC) - self.idle_since).total_seconds()
            self._idle_from = time.monotonic() - max(0.0, idle_seconds)

    def start(self) -> None:
        """Start the cluster, or continue it after an earlier endpoint. Does nothing if it has ended."""
        if self.state in ENDED_STATES:
            return
        lost = [step for step in self.steps if step.state in STARTED_STATES]
        with self._change():
            if lost:
                self._terminate(ENDPOINT_STOPPED)
            for step in lost:
                step.run = self._step_run(step)
                self._record_outcome(step, Outcome("CANCELLED", log_file=step.run.log_file))
        self._thread = threading.Thread(target=self._live, args=(lost,), name=f"cluster {self.id}", daemon=True)
        self._thread.start()

    def terminate(self) -> None:
        """Terminate it and its running steps. Does nothing if it terminates already."""
        self._terminate(USER_REQUEST)

    def configure(self, **changes: Any) -> None:
        """Set attributes (``keep_alive``, ``termination_protected``, ``concurrency``, policies) and act on them."""
        with self._change():
            for name, value in changes.items():
                setattr(self, name, value)

    def tag(self, tags: Mapping[str, str], *, remove: Sequence[str] = ()) -> None:
        """Set tags, and remove others by their keys."""
        with self._change():
            self.tags = {key: value for key, value in {**self.tags, **tags}.items() if key not in remove}

    def detach(self) -> None:
        """Detach it from this endpoint, which stops: terminate it if a step runs, else let the next one continue it."""
        with self._change():
            self._detached = True
            if any(step.state in STARTED_STATES for step in self.steps):
                self._terminate(ENDPOINT_STOPPED)

    def join(self) -> None:
        """Wait until it has ended or is detached, and all its processes have stopped."""
        if self._thread is not None:
            self._thread.join()

    # The methods below run in its own thread

    def _live(self, lost: Sequence[Step]) -> None:
        try:
            for step in lost:
                if step.run is not None:
                    step.run.conclude("the endpoint that ran this step has ended, and the step with it")
            self._provision()
            self._run_steps()
        except Exception:
            # No other code sees an exception of this thread: the cluster would keep its state for ever.
            logger.exception("cluster %s failed in the endpoint", self.id)
            self._terminate(INTERNAL_ERROR)
        self._finish_termination()

    def _is_over(self) -> bool:
        """Return whether this endpoint only waits for the processes of the cluster to stop."""
        return self.termination is not None or self._detached

    def _provision(self) -> None:
        phase_seconds = self._options.shorten(self._options.boot_seconds / 2)
        with self._change():
            if self.ready is not None:
                return
            self._changed.wait_for(self._is_over, timeout=phase_seconds)
            self._apply_capacity_fault()
            if not self._is_over():
                self._enter("BOOTSTRAPPING", "Running bootstrap actions")
                self._save(self)
                self._changed.wait_for(self._is_over, timeout=phase_seconds)
            self._apply_bootstrap_fault()
            if not self._is_over():
                self.ready = datetime.now(UTC)

    def _apply_capacity_fault(self) -> None:
        fault = None if self._is_over() else self._faults.for_capacity(self.name)
        if fault is None:
            return
        self._changed.wait_for(self._is_over, timeout=self._options.shorten(fault.after_seconds))
        instance_type = instances.describe(self)[-1]["InstanceType"]
        self._terminate(out_of_capacity(fault, instance_type, f"{self.region}a"))

    def _apply_bootstrap_fault(self) -> None:
        fault = None if self._is_over() else self._faults.for_bootstrap(self.name)
        if fault is None:
            return
        self._changed.wait_for(self._is_over, timeout=self._options.shorten(fault.after_seconds))
        instance_id = instances.primary(self)["Ec2InstanceId"]
        bootstrap.deliver_logs(self, fault, instance_id, self._options, self._faults)
        self._terminate(bootstrap_failed(fault, instance_id))

    def _run_steps(self) -> None:
        with self._changed:
            while not self._is_over():
                self._start_due_steps()
                self._update_state()
                self._save(self)
                if not self._is_over():
                    self._changed.wait(self._seconds_to_idle_timeout())
                    self._apply_idle_timeout()

    def _update_state(self) -> None:
        """Enter RUNNING or WAITING, or terminate if the cluster need not wait for more steps."""
        if self.active_steps():
            self._idle_from = self.idle_since = None
            self._enter("RUNNING", "Running step")
        elif self.keep_alive or self.termination_protected:
            if self._idle_from is None:
                self._idle_from, self.idle_since = time.monotonic(), datetime.now(UTC)
            self._enter("WAITING", "Cluster ready to run steps.")
        else:
            failed = any(step.state == "FAILED" for step in self.steps)
            self._terminate(STEPS_COMPLETED_WITH_ERRORS if failed else STEPS_COMPLETED)

    def _seconds_to_idle_timeout(self) -> float | None:
        """Return the time until the auto-termination policy applies; None if it does not."""
        if self._idle_from is None or not self.auto_termination or self.termination_protected:
            return None
        timeout_seconds = self._options.shorten(self.auto_termination["IdleTimeout"])
        return max(0.0, self._idle_from + timeout_seconds - time.monotonic())

    def _apply_idle_timeout(self) -> None:
        # A step that was added at the last moment keeps the cluster alive.
        if not self._detached and self._seconds_to_idle_timeout() == 0 and not self.active_steps():
            self._terminate(IDLE_TIMEOUT)

    def _finish_termination(self) -> None:
        with self._change():
            self._changed.wait_for(lambda: self.termination is None or not self.active_steps())
            if self.termination is not None:
                self._enter(self.termination.state, self.termination.message, self.termination.code)
                self.ended = datetime.now(UTC)
