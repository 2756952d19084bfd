"""The faults of steps: a command that replaces the step's own, or faults of its running processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import psutil

from local.emr.faults import process_faults
from local.emr.faults.scenario import StepFault
from local.emr.options import Options
from local.emr.spark import time_limit
from local.emr.spark.step_folder import StepFolder

POLL_SECONDS = 0.01


def is_during_step(fault: StepFault) -> bool:
    """Return whether the step's own command runs until the fault."""
    return bool(fault.kills or fault.at_percent is not None or fault.after_seconds)


def replace_command(argv: Sequence[str], fault: StepFault, folder: StepFolder) -> list[str]:
    """Return the command that runs instead of the step's own; it hangs or fails as the fault says."""
    if fault.hangs:
        hanging = ["bash", "-c", "trap '' TERM; while :; do sleep 1; done"]
        limit, _ = time_limit.split(shorten_limit(argv, fault))
        return [*limit, *(hanging if fault.ignores_term else ["sleep", "infinity"])]
    if fault.container_stderr:
        folder.write_container_stderr(1, fault.container_stderr)
    script = '[ -z "$1" ] || echo "$1"; echo "$2" >&2; exit "$3"'
    return ["bash", "-c", script, "fault", fault.stdout, fault.stderr, str(fault.exit_code)]


def shorten_limit(argv: Sequence[str], fault: StepFault) -> list[str]:
    """Return the command with the time limit of the fault, if the fault has one."""
    if not fault.limit_seconds:
        return list(argv)
    limit, command = time_limit.split(argv)
    return [*time_limit.shorten(limit, fault.limit_seconds), *command]


class StepFaultInjector:
    """Suspends or kills the processes of a running step.

    Parameters
    ----------
    fault : StepFault
        The fault.
    folder : StepFolder
        The folder of the step.
    options : Options
        The endpoint's settings.
    find_processes : callable
        Returns the living processes of the step.
    lose_instance : callable
        Called when an executor is killed: the cluster loses its instance too.
    """

    def __init__(
        self,
        fault: StepFault,
        folder: StepFolder,
        options: Options,
        *,
        find_processes: Callable[[], Sequence[psutil.Process]],
        lose_instance: Callable[[], None],
    ) -> None:
        self._fault = fault
        self._folder = folder
        self._options = options
        self._find_processes = find_processes
        self._lose_instance = lose_instance

    def inject(self, ended: threading.Event) -> None:
        """Inject the fault. The event is set when the step has ended."""
        if self._fault.kills == "executor":
            self._kill_executors(ended)
            return
        while not process_faults.suspend_command(self._find_processes) and not ended.wait(POLL_SECONDS):
            pass  # the command starts in a moment
        if self._fault.kills == "driver":
            process_faults.kill_command(self._find_processes)
        self._folder.write_controller(f"fault: the command was {'killed' if self._fault.kills else 'suspended'}")

    def _kill_executors(self, ended: threading.Event) -> None:
        killed: set[int] = set()
        for number in range(self._fault.losses):
            if number:
                ended.wait(self._options.shorten(self._fault.pause_seconds))
            found = self._await_executor(killed, ended)
            if found is None:
                return
            executor, process = found
            killed.add(executor)
            process_faults.kill_executor(process)
            self._lose_instance()
            # What YARN reports to the driver (org.apache.spark.deploy.yarn.YarnAllocator; SchedulerUtils of YARN).
            self._folder.write_spark_record(
                "WARN YarnSchedulerBackend$YarnSchedulerEndpoint: Requesting driver to remove executor "
                f"{executor} for reason Container marked as failed: {self._folder.container(executor)} on host: "
                "127.0.0.1. Exit status: -100. Diagnostics: Container released on a *lost* node."
            )

    def _await_executor(self, killed: set[int], ended: threading.Event) -> tuple[int, psutil.Process] | None:
        """Wait for an executor that was not killed and return the oldest; None if the step ends before."""
        while not ended.wait(2 * POLL_SECONDS):
            for executor, process in process_faults.find_executors(self._find_processes()):
                if executor not in killed:
                    return executor, process
        return None
