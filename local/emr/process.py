"""An endpoint as a child process: started, waited for, stopped, and gone when its parent is gone."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

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
        self._process: subprocess.Popen[bytes] | None = None
        self._started = threading.Event()
        self._state_dir.mkdir(parents=True, exist_ok=True)
        # The kernel tells the endpoint that its parent is gone when the *thread* that started it ends: this one lives
        # as long as the endpoint.
        self._keeper = threading.Thread(target=self._keep, name="endpoint keeper", daemon=True)
        self._keeper.start()
        try:
            self.url = self._await_record(time.monotonic() + start_seconds)
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._process is None:
            raise RuntimeError("the endpoint was not started")
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """Its log."""
        return self._state_dir / LOG_FILE

    def stop(self, timeout_seconds: float = 60.0) -> int | None:
        """Stop it, with all steps that run; return its exit code, None when it never started.

        Raises
        ------
        RuntimeError
            When it had to be killed.
        """
        self._started.wait()
        process = self._process
        if process is None:
            return None
        if process.poll() is None:
            process.terminate()
        self._keeper.join(timeout_seconds)
        if self._keeper.is_alive():
            process.kill()
            self._keeper.join()
            raise RuntimeError(
                f"the endpoint did not stop in {timeout_seconds:g} s and was killed; see {self.log_file}"
            )
        return process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _keep(self) -> None:
        command = [sys.executable, "-m", "local.emr", "--port", "0", "--state-dir", str(self._state_dir)]
        command += ["--parent", str(os.getpid()), *self._arguments]
        try:
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
        finally:
            self._started.set()
        self._process.wait()

    def _await_record(self, deadline: float) -> str:
        record_file = self._state_dir / "endpoint.json"
        self._started.wait()
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            if record_file.exists():
                record = json.loads(record_file.read_text(encoding="utf-8"))
                if record["pid"] == self._process.pid:  # not the record of one that was killed
                    return str(record["url"])
            time.sleep(0.05)
        tail = self.log_file.read_text(encoding="utf-8", errors="replace")[-2_000:] if self.log_file.exists() else ""
        raise RuntimeError(f"the local EMR endpoint did not come up; the end of {self.log_file}:\n{tail}")
