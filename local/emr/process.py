"""The endpoint as a child process: start it, wait until it answers, stop it. It stops when its parent exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from local.processes.children import start_in_thread

LOG_FILE = "endpoint.log"
ROOT = Path(__file__).resolve().parents[2]


class EndpointProcessError(RuntimeError):
    """The endpoint cannot be launched, does not answer, or does not stop; the message has the end of its log."""


class EndpointProcess:
    """A running endpoint. Use it in a ``with`` statement, or call :meth:`stop`.

    Parameters
    ----------
    state_dir : Path
        The endpoint's state directory; its log is ``endpoint.log`` in it.
    arguments : sequence of str
        More arguments for ``python -m local.emr`` (``--master``, ``--faults``, …).
    environment : mapping, optional
        Its environment; by default, that of this process.
    start_seconds : float
        Maximum time until it answers.

    Attributes
    ----------
    url : str
        The URL of the endpoint.

    Raises
    ------
    EndpointProcessError
        If it cannot be launched, or does not answer in time. The message has the end of its log.
    """

    def __init__(
        self,
        state_dir: Path,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        start_seconds: float = 60.0,
    ) -> None:
        self._state_dir = state_dir.absolute()
        self._arguments = arguments
        self._environment = {**(os.environ if environment is None else environment), "PYTHONPATH": str(ROOT)}
        self._process: subprocess.Popen[bytes]
        with start_in_thread(self._launch, name="EMR endpoint", stop=self.stop):
            self.url = self._await_record(time.monotonic() + start_seconds)

    @property
    def pid(self) -> int:
        """The process id of the endpoint."""
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """The file with its output."""
        return self._state_dir / LOG_FILE

    def stop(self, timeout_seconds: float = 60.0) -> int:
        """Stop it, with all running steps; return its exit code.

        Raises
        ------
        EndpointProcessError
            If it did not stop in time and was killed.
        """
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise EndpointProcessError(
                f"the endpoint did not stop in {timeout_seconds:g} s and was killed; see {self.log_file}"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "local.emr", "--port", "0", "--state-dir", str(self._state_dir)]
        command += ["--parent", str(os.getpid()), *self._arguments]
        try:
            self._state_dir.mkdir(parents=True, exist_ok=True)
            with self.log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    cwd=self._state_dir,
                    start_new_session=True,  # a terminal's Ctrl-C goes to the parent, which stops the endpoint
                )
        except OSError as error:
            advice = f"check the state directory {self._state_dir} and the interpreter {sys.executable}"
            raise self._failure(f" ({error}); {advice}") from error
        return self._process

    def _await_record(self, deadline: float) -> str:
        record_file = self._state_dir / "endpoint.json"
        while self._process.poll() is None and time.monotonic() < deadline:
            if record_file.exists():
                record = json.loads(record_file.read_text(encoding="utf-8"))
                if record["pid"] == self.pid:  # not the record of a killed endpoint
                    return str(record["url"])
            time.sleep(0.05)
        raise self._failure()

    def _failure(self, cause: str = "") -> EndpointProcessError:
        try:
            tail = self.log_file.read_text(encoding="utf-8", errors="replace")[-2_000:]
        except OSError:  # for example, there is no log yet
            tail = ""
        return EndpointProcessError(
            f"the local EMR endpoint did not come up{cause}; the end of {self.log_file}:\n{tail}"
        )
