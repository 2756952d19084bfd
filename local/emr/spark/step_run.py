"""The run of a step: its command on this machine, from its start to the delivery of its logs."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from local.emr.faults.faults import Faults
from local.emr.faults.triggers import Trigger, TriggerThread
from local.emr.options import Options
from local.emr.spark.commands import CommandError, Target, translate
from local.emr.spark.environment import step_environment
from local.emr.spark.failures import explain
from local.emr.spark.host_name import name_environment
from local.emr.spark.logs import LogDelivery, log_folder, tail
from local.emr.spark.processes import Exit, GuardedProcess
from local.emr.spark.s3_connector import connector_folder, connector_jars, connector_settings
from local.emr.spark.spark_home import archive_options, link_home, prepared_home
from local.emr.spark.step_faults import StepFaultInjector, is_during_step, replace_command, shorten_limit
from local.emr.spark.step_folder import StepFolder
from local.emr.spark.step_outcome import Outcome


class StepRun:
    """The run of a step.

    Parameters
    ----------
    step_id, name : str
        The step.
    argv : list of str
        Its command, as given to EMR.
    cluster_id, log_uri : str
        Its cluster, and the LogUri of the cluster; an empty URI if the cluster has none.
    options : Options
        The endpoint's settings.
    faults : Faults
        The faults to inject.
    cluster_name : str
        The name of the cluster, which the rules of faults match.
    application : str
        The id that YARN would give to the Spark application of the step. The logs of its executors go under it.
    triggers : sequence of Trigger
        The faults of the cluster during the step.
    lose_instance : callable, optional
        Called when an executor is killed: the cluster loses its instance too.
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
        self._folder = StepFolder(options.state_dir / "clusters" / cluster_id / "steps" / step_id, application)
        self._cluster_logs = log_folder(log_uri, cluster_id) if log_uri else ""
        self._log_delivery = LogDelivery(cluster_name, options, faults)
        self._triggers = list(triggers)
        self._lose_instance = lose_instance
        self._lock = threading.Lock()
        self._process: GuardedProcess | None = None
        self._stopped = False

    def execute(self) -> Outcome:
        """Run the command until it ends, and deliver its logs.

        The thread that calls this must live until the command ends (see :class:`GuardedProcess`).
        """
        self._folder.create_logs()
        self._folder.write_controller(
            f"step {self._step_id} {self._name!r}, on this machine; bootstrap actions were not run"
        )
        self._folder.write_controller(f"given: {shlex.join(self._argv)}")
        try:
            argv = self._command()
        except CommandError as error:
            self._folder.write("stderr", f"{error}\n")
            argv, end = self._argv, Exit(code=1, stopped=False)
        else:
            self._folder.write_controller(f"run:   {shlex.join(argv)}")
            end = self._run(argv)
        self.conclude(_controller_line(end))
        return self._outcome(end)

    def conclude(self, line: str) -> None:
        """Delete temporary files, write the last line of the controller's log, and deliver the logs.

        A restarted endpoint calls this for a step that an earlier endpoint ran.
        """
        self._folder.keep_container_logs()
        self._folder.delete_temporary_files()
        self._folder.create_logs()
        self._folder.write_controller(line)
        if self._cluster_logs:
            self._log_delivery.deliver(self._folder.logs(self._step_id), self._cluster_logs)

    @property
    def log_file(self) -> str:
        """URI of its compressed standard error; empty if the cluster has no LogUri."""
        return f"{self._cluster_logs}/steps/{self._step_id}/stderr.gz" if self._cluster_logs else ""

    def stop(self, *, kill: bool) -> None:
        """Kill the command, or interrupt it and kill it after the grace period."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                if kill:
                    self._process.kill()
                else:
                    self._process.interrupt()

    def _command(self) -> list[str]:
        """Return the command to run on this machine, after the fault of the step, if it has one."""
        argv = self._argv
        fault = self._faults.for_step(self._name)
        if fault is not None:
            if not is_during_step(fault):
                return replace_command(argv, fault, self._folder)
            injector = StepFaultInjector(
                fault,
                self._folder,
                self._options,
                find_processes=self._processes,
                lose_instance=self._lose_instance,
            )
            self._triggers.append(Trigger(fault, injector.inject))
            argv = shorten_limit(argv, fault)
        target = Target(
            spark_submit=self._spark_submit,
            master=self._options.master,
            driver_memory_cap_mb=self._options.driver_memory_cap_mb,
            s3_settings=connector_settings(connector_jars(connector_folder()), os.environ),
        )
        return translate(argv, target)

    def _processes(self) -> list[psutil.Process]:
        return self._process.descendants() if self._process else []

    def _run(self, argv: list[str]) -> Exit:
        for folder in (self._folder.work, self._folder.scratch):
            folder.mkdir()
        if self._spark_home == self._folder.spark_home:
            link_home(self._spark_home, with_python=self._options.python != sys.executable)
        environment = step_environment(
            os.environ,
            python=self._options.python,
            spark_home=self._spark_home,
            scratch=self._folder.scratch,
            jvm_options=f"{self._options.jvm_options} {archive_options(self._spark_home)}".strip(),
            extra_names=self._options.pass_environment,
        ) | name_environment(self._folder.scratch)
        outputs = [self._folder.path / name for name in ("stdout", "stderr")]
        with self._lock:
            if self._stopped:
                return Exit(code=None, stopped=True)
            if self._on_local_cluster and self._spark_submit in argv:
                self._folder.write_spark_record(
                    f"INFO YarnClientImpl: Submitted application {self._folder.application}"
                )
            self._process = GuardedProcess(
                argv,
                environment=environment,
                folder=self._folder.work,
                stdout=outputs[0],
                stderr=outputs[1],
                result=self._folder.path / "exit.json",
                grace_seconds=self._options.interrupt_grace_seconds,
            )
        with TriggerThread(self._triggers, outputs, self._options.shorten):
            return self._process.wait()

    @property
    def _spark_home(self) -> Path:
        """The environment's prepared home, or the step's own: ``local-cluster`` writes into its home."""
        prepared = prepared_home()
        usable = self._options.python == sys.executable and not self._on_local_cluster and prepared.exists()
        return prepared if usable else self._folder.spark_home

    @property
    def _spark_submit(self) -> str:
        return str(self._spark_home / "bin" / "spark-submit")

    @property
    def _on_local_cluster(self) -> bool:
        return self._options.master.startswith("local-cluster")

    def _outcome(self, end: Exit) -> Outcome:
        if end.stopped:
            return Outcome("CANCELLED", log_file=self.log_file)
        if end.code == 0:
            return Outcome("COMPLETED", log_file=self.log_file)
        output = {name: tail(self._folder.path / name) for name in ("stdout", "stderr")}
        return Outcome("FAILED", explain(self._argv, end.code, **output), self.log_file)


def _controller_line(end: Exit) -> str:
    """Return the controller's line about the end of a command, as EMR writes it; signals count from 128."""
    if end.code is None:
        return "exit code None"
    code = end.code if end.code >= 0 else 128 - end.code
    return f"waitProcessCompletion ended with exit code {code}{', stopped' if end.stopped else ''}"
