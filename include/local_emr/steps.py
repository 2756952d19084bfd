"""A step: its record, and running its command."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from moto.emr.utils import random_step_id

from include.local_emr.commands import CommandError, Target, translate
from include.local_emr.environment import step_environment
from include.local_emr.failures import explain
from include.local_emr.faults import Faults, StepFault
from include.local_emr.logs import NAMES, deliver, log_folder, tail
from include.local_emr.options import Options
from include.local_emr.processes import Exit, GuardedProcess
from include.local_emr.s3_connector import connector_folder, connector_jars, connector_settings
from include.local_emr.spark_home import archive_options, link_home, prepared_home

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
    ) -> None:
        self._step_id = step_id
        self._name = name
        self._argv = argv
        self._options = options
        self._faults = faults
        self._folder = options.state_dir / "clusters" / cluster_id / "steps" / step_id
        self._log_uri = log_folder(log_uri, cluster_id, step_id) if log_uri else ""
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
        self.conclude(f"exit code {end.code}{', stopped' if end.stopped else ''}")
        return self._outcome(argv, end)

    def conclude(self, how: str) -> None:
        """Clear up after the command, say in its log how it ended, and deliver its logs; whoever has run it."""
        for folder in (self._scratch, self._own_spark_home):
            shutil.rmtree(folder, ignore_errors=True)
        for name in NAMES:
            self._make_file(name)
        self._control(how)
        if self._log_uri:
            deliver(self._folder, self._log_uri)

    @property
    def log_file(self) -> str:
        """URI of its compressed standard error; empty when the cluster has no LogUri."""
        return f"{self._log_uri}/stderr.gz" if self._log_uri else ""

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
        if fault is not None:
            return _failing_command(fault)
        target = Target(
            spark_submit=str(self._spark_home / "bin" / "spark-submit"),
            master=self._options.master,
            driver_memory_cap_mb=self._options.driver_memory_cap_mb,
            s3_settings=connector_settings(connector_jars(connector_folder()), os.environ),
        )
        return translate(self._argv, target)

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
            self._process = GuardedProcess(
                argv,
                environment=environment,
                folder=work,
                stdout=self._folder / "stdout",
                stderr=self._folder / "stderr",
                result=self._folder / "exit.json",
                grace_seconds=self._options.interrupt_grace_seconds,
            )
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
        ours = self._options.python == sys.executable and not self._options.master.startswith("local-cluster")
        return prepared if ours and prepared.exists() else self._own_spark_home

    def _outcome(self, argv: list[str], end: Exit) -> Outcome:
        if end.stopped:
            return Outcome("CANCELLED", log_file=self.log_file)
        if end.code == 0:
            return Outcome("COMPLETED", log_file=self.log_file)
        output = {name: tail(self._folder / name) for name in ("stdout", "stderr")}
        return Outcome("FAILED", explain(argv, end.code, **output), self.log_file)

    def _make_file(self, name: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).touch()

    def _control(self, line: str) -> None:
        self._write("controller", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} INFO {line}\n")

    def _write(self, name: str, text: str) -> None:
        with (self._folder / name).open("a", encoding="utf-8") as stream:
            stream.write(text)


def _failing_command(fault: StepFault) -> list[str]:
    if fault.hangs:
        return ["sleep", "infinity"]
    return ["bash", "-c", 'echo "$1" >&2; exit "$2"', "fault", fault.stderr, str(fault.exit_code)]
