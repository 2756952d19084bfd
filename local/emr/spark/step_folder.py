"""The folder of a step on this machine: its logs, the logs of its executors, and its temporary files."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from local.emr.spark.logs import LOG_NAMES, files_in


class StepFolder:
    """The folder of a step.

    Parameters
    ----------
    path : Path
        The folder. Its parents are created when the first file is written.
    application : str
        The id that YARN would give to the Spark application of the step.

    Attributes
    ----------
    work : Path
        Working directory of the command.
    scratch : Path
        Temporary files and Spark's local directories; deleted when the step ends.
    spark_home : Path
        The step's own Spark home, if it needs one; deleted when the step ends.
    """

    def __init__(self, path: Path, application: str) -> None:
        self.path = path
        self.application = application
        self.work = path / "work"
        self.scratch = path / "scratch"
        self.spark_home = path / "spark"
        self._containers = path / "containers"

    def create_logs(self) -> None:
        """Create the logs that do not exist yet."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in LOG_NAMES:
            (self.path / name).touch()

    def write(self, name: str, text: str) -> None:
        """Append text to a log."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(text)

    def write_controller(self, line: str) -> None:
        """Append a line to the controller's log."""
        self.write("controller", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ} INFO {line}\n")

    def write_spark_record(self, record: str) -> None:
        """Append a log record to the standard error, in Spark's format."""
        self.write("stderr", f"{datetime.now(UTC):%y/%m/%d %H:%M:%S} {record}\n")

    def container(self, executor: int) -> str:
        """Return the id that YARN would give to the container of an executor; 000001 is the application master."""
        return f"{self.application.replace('application', 'container')}_01_{executor + 2:06d}"

    def write_container_stderr(self, executor: int, text: str) -> None:
        """Append text to the standard error of an executor's container."""
        self.write(f"containers/{self.container(executor)}/stderr", text)

    def keep_container_logs(self) -> None:
        """Copy the logs of executors out of the Spark home, which is deleted."""
        for log in self.spark_home.glob("work/app-*/*/std*"):
            if log.parent.name.isdecimal():
                copy = self._containers / self.container(int(log.parent.name)) / log.name
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(log, copy)

    def delete_temporary_files(self) -> None:
        """Delete the scratch folder and the Spark home."""
        for folder in (self.scratch, self.spark_home):
            shutil.rmtree(folder, ignore_errors=True)

    def logs(self, step_id: str) -> dict[str, Path]:
        """Return all logs by their paths in the logs of the cluster."""
        files = {f"steps/{step_id}/{name}": self.path / name for name in LOG_NAMES}
        in_containers = files_in(self._containers).items()
        return files | {f"containers/{self.application}/{name}": path for name, path in in_containers}
