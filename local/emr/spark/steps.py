"""A step: its record, and running its command."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from moto.emr.utils import random_step_id

from local.emr.faults import harm
from local.emr.faults.faults import Faults
from local.emr.faults.scenario import StepFault
from local.emr.faults.triggers import Trigger, Watch
from local.emr.options import Options
from local.emr.spark import limits
from local.emr.spark.commands import CommandError, Target, translate
from local.emr.spark.environment import step_environment
from local.emr.spark.failures import explain
from local.emr.spark.logs import NAMES, Courier, files_in, log_folder, tail
from local.emr.spark.processes import Exit, GuardedProcess
from local.emr.spark.s3_connector import connector_folder, connector_jars, connector_settings
from local.emr.spark.spark_home import archive_options, link_home, prepared_home

logger = logging.getLogger(__name__)

ACTIVE_STATES = ("PENDING", "CANCEL_PENDING", "RUNNING")


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Parameters
    ----------
    state : str
        COMPLETED, FAILED or CANCELLED.
    message : str
        Why it failed; empty otherwise.
    log_file : str
        URI of its compressed standard error; empty when the cluster has no LogUri.
    cause : str
        The kind of failure; EMR names none for what a command did.
    """

    state: str
    message: str = ""
    log_file: str = ""
    cause: str = "Unknown Error."


@dataclass
class Step:
    """What the API tells of a step. Its cluster's lock guards it."""

    config: Mapping[str, Any]
    action_on_failure: str
    id: str = field(default_factory=random_step_id)
    state: str = "PENDING"
    reason: str = ""
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: datetime | None = None
    ended: datetime | None = None
    outcome: Outcome | None = None
    run: StepRun | None = None

    @property
    def name(self) -> str:
        """The step's name."""
        return str(self.config["Name"])

    @property
    def argv(self) -> list[str]:
        """The arguments of command-runner.jar."""
        return list((self.config.get("HadoopJarStep") or {}).get("Args") or [])

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ACTIVE_STATES


class StepRun:
    """One step's command, from its start to its delivered logs.

    Parameters
    ----------
    step_id, name : str
        The step.
    argv : list of str
        Its command, as given to EMR.
    cluster_id, log_uri : str
        Its cluster, and where that keeps its logs; an empty URI for nowhere.
    options : Options
        The endpoint's settings.
    faults : Faults
        What is to go wrong.
    cluster_name : str
        By which faults know the cluster.
    application : str
        The id that YARN would give to the step's application; its executors' logs go under it.
    triggers : sequence of Trigger
        What is to happen to its cluster in the middle of it.
    lose_instance : callable, optional
        Called when an executor is killed: its instance is lost too.
    """

    def __init__(
        self,
        step_id: str,
        name: str,
        argv: list[str],
        *,
        cluster_id: str,
        log_uri: str,
        options: Options,
        faults: Faults,
        cluster_name: str = "",
        application: str = "application_0_0001",
        triggers: Sequence[Trigger] = (),
        lose_instance: Callable[[], None] = lambda: None,
    ) -> None:
        self._step_id = step_id
        self._name = name
        self._argv = argv
        self._options = options
        self._faults = faults
        self._folder = options.state_dir / "clusters" / cluster_id / "steps" / step_id
        self._cluster_logs = log_folder(log_uri, cluster_id) if log_uri else ""
        self._courier = Courier(cluster_name, options, faults)
        self._application = application
        self._triggers = list(triggers)
        self._lose_instance = lose_instance
        self._lock = threading.Lock()
        self._process: GuardedProcess | None = None
        self._stopped = False

    def execute(self) -> Outcome:
        """Run the command to its end and deliver its logs, in a thread that lives as long (see GuardedProcess)."""
        for name in NAMES:
            self._make_file(name)
        self._control(f"step {self._step_id} {self._name!r}, on this machine; bootstrap actions were not run")
        self._control(f"given: {shlex.join(self._argv)}")
        try:
            argv = self._command()
        except CommandError as error:
            self._write("stderr", f"{error}\n")
            argv, end = self._argv, Exit(code=1, stopped=False)
        else:
            self._control(f"run:   {shlex.join(argv)}")
            end = self._run(argv)
        self.conclude(_as_told(end))
        return self._outcome(end)

    def conclude(self, how: str) -> None:
        """Clear up after the command, say in its log how it ended, and deliver its logs; whoever has run it."""
        self._keep_container_logs()
        for folder in (self._scratch, self._own_spark_home):
            shutil.rmtree(folder, ignore_errors=True)
        for name in NAMES:
            self._make_file(name)
        self._control(how)
        if self._cluster_logs:
            files = {f"steps/{self._step_id}/{name}": self._folder / name for name in NAMES}
            of_containers = files_in(self._containers)
            files |= {f"containers/{self._application}/{name}": path for name, path in of_containers.items()}
            self._courier.deliver(files, self._cluster_logs)

    @property
    def log_file(self) -> str:
        """URI of its compressed standard error; empty when the cluster has no LogUri."""
        return f"{self._cluster_logs}/steps/{self._step_id}/stderr.gz" if self._cluster_logs else ""

    def stop(self, *, kill: bool) -> None:
        """End the command: at once, or by asking first."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                if kill:
                    self._process.kill()
                else:
                    self._process.interrupt()

    def _command(self) -> list[str]:
        fault = self._faults.for_step(self._name)
        in_the_middle = fault is not None and (fault.kills or fault.at_percent is not None or fault.after_seconds)
        if fault is not None and not in_the_middle:
            return self._failing_command(fault)
        argv = self._argv
        if fault is not None:
            self._triggers.append(Trigger(fault, lambda ended: self._harm(fault, ended)))
            argv = self._limited(argv, fault)
        target = Target(
            spark_submit=str(self._spark_home / "bin" / "spark-submit"),
            master=self._options.master,
            driver_memory_cap_mb=self._options.driver_memory_cap_mb,
            s3_settings=connector_settings(connector_jars(connector_folder()), os.environ),
        )
        return translate(argv, target)

    def _failing_command(self, fault: StepFault) -> list[str]:
        if fault.hangs:
            hanging = ["bash", "-c", "trap '' TERM; while :; do sleep 1; done"]
            limit, _ = limits.split(self._limited(self._argv, fault))
            return [*limit, *(hanging if fault.ignores_term else ["sleep", "infinity"])]
        if fault.container_stderr:
            self._write(f"containers/{self._container(1)}/stderr", fault.container_stderr)
        script = '[ -z "$1" ] || echo "$1"; echo "$2" >&2; exit "$3"'
        return ["bash", "-c", script, "fault", fault.stdout, fault.stderr, str(fault.exit_code)]

    @staticmethod
    def _limited(argv: list[str], fault: StepFault) -> list[str]:
        """Return the command with the time limit that the fault gives it."""
        if not fault.limit_seconds:
            return argv
        limit, command = limits.split(argv)
        return [*limits.shorten(limit, fault.limit_seconds), *command]

    # What goes wrong while it runs

    def _harm(self, fault: StepFault, ended: threading.Event) -> None:
        if fault.kills == "executor":
            self._lose_executors(fault, ended)
            return
        process = self._process
        if process is None:
            return
        while not harm.freeze(process.family) and not ended.wait(0.01):
            pass  # it is about to begin
        if fault.kills == "driver":
            harm.kill_command(process.family)
        self._control(f"fault: the command was {'killed' if fault.kills else 'stopped where it is'}")

    def _lose_executors(self, fault: StepFault, ended: threading.Event) -> None:
        lost: set[int] = set()
        for number in range(fault.losses):
            if number:
                ended.wait(self._options.shorten(fault.pause_seconds))
            found = self._await_executor(lost, ended)
            if found is None:
                return
            executor, process = found
            lost.add(executor)
            harm.kill_executor(process)
            self._lose_instance()
            # What YARN tells a driver of this (org.apache.spark.deploy.yarn.YarnAllocator; SchedulerUtils of YARN).
            self._log_as_spark(
                "WARN YarnSchedulerBackend$YarnSchedulerEndpoint: Requesting driver to remove executor "
                f"{executor} for reason Container marked as failed: {self._container(executor)} on host: 127.0.0.1. "
                "Exit status: -100. Diagnostics: Container released on a *lost* node."
            )

    def _await_executor(self, lost: set[int], ended: threading.Event) -> tuple[int, psutil.Process] | None:
        """Return the oldest executor that was not lost, as soon as there is one; None when the step ends before."""
        while not ended.wait(0.02):
            found = harm.find_executors(self._process.family()) if self._process else []
            for executor, process in found:
                if executor not in lost:
                    return executor, process
        return None

    # Its executors, which are YARN's containers on a cluster

    def _container(self, executor: int) -> str:
        """Return the id that YARN would give to an executor's container; the first is the application master's."""
        return f"{self._application.replace('application', 'container')}_01_{executor + 2:06d}"

    @property
    def _containers(self) -> Path:
        return self._folder / "containers"

    def _keep_container_logs(self) -> None:
        for log in self._own_spark_home.glob("work/app-*/*/std*"):
            if log.parent.name.isdecimal():
                kept = self._containers / self._container(int(log.parent.name)) / log.name
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log, kept)

    def _log_as_spark(self, text: str) -> None:
        self._write("stderr", f"{datetime.now(UTC):%y/%m/%d %H:%M:%S} {text}\n")

    def _run(self, argv: list[str]) -> Exit:
        work, scratch = self._folder / "work", self._scratch
        for folder in (work, scratch):
            folder.mkdir()
        if self._spark_home == self._own_spark_home:
            link_home(self._own_spark_home, with_python=self._options.python != sys.executable)
        environment = step_environment(
            os.environ,
            python=self._options.python,
            spark_home=self._spark_home,
            scratch=scratch,
            jvm_options=f"{self._options.jvm_options} {archive_options(self._spark_home)}".strip(),
            also=self._options.pass_environment,
        )
        with self._lock:
            if self._stopped:
                return Exit(code=None, stopped=True)
            if self._on_local_cluster and any(word == str(self._spark_home / "bin" / "spark-submit") for word in argv):
                self._log_as_spark(f"INFO YarnClientImpl: Submitted application {self._application}")
            self._process = GuardedProcess(
                argv,
                environment=environment,
                folder=work,
                stdout=self._folder / "stdout",
                stderr=self._folder / "stderr",
                result=self._folder / "exit.json",
                grace_seconds=self._options.interrupt_grace_seconds,
            )
        outputs = [self._folder / name for name in ("stdout", "stderr")]
        with Watch(self._triggers, outputs, self._options.shorten):
            return self._process.wait()

    @property
    def _scratch(self) -> Path:
        return self._folder / "scratch"

    @property
    def _own_spark_home(self) -> Path:
        return self._folder / "spark"

    @property
    def _spark_home(self) -> Path:
        """The environment's prepared home, where the step can use it: ``local-cluster`` writes into its home."""
        prepared = prepared_home()
        ours = self._options.python == sys.executable and not self._on_local_cluster
        return prepared if ours and prepared.exists() else self._own_spark_home

    @property
    def _on_local_cluster(self) -> bool:
        return self._options.master.startswith("local-cluster")

    def _outcome(self, end: Exit) -> Outcome:
        if end.stopped:
            return Outcome("CANCELLED", log_file=self.log_file)
        if end.code == 0:
            return Outcome("COMPLETED", log_file=self.log_file)
        output = {name: tail(self._folder / name) for name in ("stdout", "stderr")}
        return Outcome("FAILED", explain(self._argv, end.code, **output), self.log_file)

    def _make_file(self, name: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).touch()

    def _control(self, line: str) -> None:
        self._write("controller", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} INFO {line}\n")

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)


def _as_told(end: Exit) -> str:
    """Return the controller's line about a command's end, as EMR's has it; signals count from 128, as in a shell."""
    if end.code is None:
        return "exit code None"
    code = end.code if end.code >= 0 else 128 - end.code
    return f"waitProcessCompletion ended with exit code {code}{', stopped' if end.stopped else ''}"
