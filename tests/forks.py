"""Processes that are forked from one that has imported their modules: they start in milliseconds instead of seconds."""

from __future__ import annotations

import functools
import logging
import multiprocessing
import multiprocessing.connection
import os
import subprocess
import threading
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import cast

from local.emr.process import EndpointProcess

MODULES = [
    *("tests.forks", "tests.warm_clients", "local.emr.__main__", "tests.end_to_end.kills.writer"),
    *("spark_jobs.lake.storage", "obstore", "pandas"),
]
"""What the processes use. None of these modules starts a thread when it is imported."""


@functools.cache
def forkserver() -> ForkServerContext:
    """Return the context of processes that have imported ``MODULES``; one server per worker."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    return context


class ForkedEndpoint(EndpointProcess):
    """An endpoint in a forked process. Tests of the program itself use :class:`EndpointProcess`."""

    def _launch(self) -> subprocess.Popen[bytes]:
        self._state_dir.mkdir(parents=True, exist_ok=True)
        process = forkserver().Process(
            target=_serve, args=(self._state_dir, list(self._arguments), self._environment, self.log_file)
        )
        process.start()
        self._process = cast("subprocess.Popen[bytes]", _Started(process))
        return self._process


class _Started:
    """What :class:`EndpointProcess` uses of a Popen."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        # Two threads wait for an endpoint, and the pipe has its exit code once: the second reader would get 255.
        self._lock = threading.Lock()
        self.pid = process.pid
        self.terminate, self.kill = process.terminate, process.kill

    def poll(self) -> int | None:
        with self._lock:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        multiprocessing.connection.wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("the endpoint", timeout or 0)
        return code


def _serve(state_dir: Path, arguments: list[str], environment: dict[str, str], log: Path) -> None:
    from local.emr.__main__ import main

    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(state_dir)
    logging.root.handlers.clear()  # Airflow, which tests.end_to_end.kills.writer imports, has set them
    for number in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    raise SystemExit(main(["--port", "0", "--state-dir", str(state_dir), "--parent", str(os.getppid()), *arguments]))
