"""The endpoint as a child process: start it, wait until it answers, stop it. It stops when its parent exits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from local.processes.children import start_in_thread

LOG_FILE = "endpoint.log"
ROOT = Path(__file__).resolve().parents[2]


class EndpointProcess:
    """A running endpoint. Use it in a ``with`` statement, or call :meth:`stop`.

    Parameters
    ----------
    state_dir : Path
        The endpoint's state folder; its log is ``endpoint.log`` in it.
    arguments : sequence of str
        More arguments for ``python -m local.emr`` (``--master``, ``--faults``, …).
    environment : mapping, optional
        Its environment; this process's by default.
    start_seconds : float
        How long it may take to answer.

    Raises
    ------
    RuntimeError
        When it does not come up; the message has the end of its log.
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
        self._state_dir.mkdir(parents=True, exist_ok=True)
        self._process = start_in_thread(self._launch, name="EMR endpoint")
        try:
            self.url = self._await_record(time.monotonic() + start_seconds)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """Its log."""
        return self._state_dir / LOG_FILE

    def stop(self, timeout_seconds: float = 60.0) -> int:
        """Stop it, with all running steps; return its exit code.

        Raises
        ------
        RuntimeError
            When it did not stop in time and was killed.
        """
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise RuntimeError(
                f"the endpoint did not stop in {timeout_seconds:g} s and was killed; see {self.log_file}"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "local.emr", "--port", "0", "--state-dir", str(self._state_dir)]
        command += ["--parent", str(os.getpid()), *self._arguments]
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._state_dir,
                start_new_session=True,  # a terminal's Ctrl-C goes to the parent, which stops the endpoint
            )

    def _await_record(self, deadline: float) -> str:
        record_file = self._state_dir / "endpoint.json"
        while self._process.poll() is None and time.monotonic() < deadline:
            if record_file.exists():
                record = json.loads(record_file.read_text(encoding="utf-8"))
                if record["pid"] == self._process.pid:  # not the record of a killed endpoint
                    return str(record["url"])
            time.sleep(0.05)
        tail = self.log_file.read_text(encoding="utf-8", errors="replace")[-2_000:] if self.log_file.exists() else ""
        raise RuntimeError(f"the local EMR endpoint did not come up; the end of {self.log_file}:\n{tail}")
