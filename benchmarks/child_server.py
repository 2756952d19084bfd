"""A server in a child process; requests and answers are JSON lines on its standard input and output.

The process stops when its standard input closes: after :meth:`ChildServer.stop`, or when its parent is killed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Self

from benchmarks import REPOSITORY

HOST = "127.0.0.1"
GRACE_SECONDS = 5
LONGEST_LINE = 2**26

Answer = Callable[[dict[str, Any]], Any]


class ChildServer:
    """The parent's side. Use it in a ``with`` statement, or call :meth:`stop`.

    Parameters
    ----------
    module : str
        Module to run; it calls :func:`serve`.
    settings : dict
        Settings sent first; JSON values.

    Attributes
    ----------
    url : str
        URL of the server.

    Raises
    ------
    RuntimeError
        If the server does not start. Its standard error, which shows the reason, is this process's.
    """

    def __init__(self, module: str, settings: dict[str, Any]) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            start_new_session=True,  # a terminal's Ctrl-C goes to the parent, which stops it
        )
        try:
            self.url = str(self.ask(settings))
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def ask(self, request: dict[str, Any]) -> Any:
        """Send a request of JSON values and return the answer.

        Raises
        ------
        RuntimeError
            If the process has stopped.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("both are pipes")
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(request).encode() + b"\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except (BrokenPipeError, ValueError):  # the other end is gone, or this one was closed by stop()
                line = b""
        if not line:
            raise RuntimeError(f"the server {self._module} has stopped: see its standard error")
        return json.loads(line)

    def stop(self) -> None:
        """Stop the server."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def serve(start: Callable[[dict[str, Any]], Awaitable[tuple[asyncio.Server, Answer]]]) -> None:
    """Run the child's side until standard input closes.

    Parameters
    ----------
    start : callable
        Coroutine function from the settings to the listening server and the function that answers requests.
    """
    asyncio.run(_serve(start))


async def _serve(start: Callable[[dict[str, Any]], Awaitable[tuple[asyncio.Server, Answer]]]) -> None:
    lines = asyncio.StreamReader(limit=LONGEST_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    server, answer = await start(json.loads(await lines.readline()))
    _write_line(f"http://{HOST}:{server.sockets[0].getsockname()[1]}")
    while line := await lines.readline():
        _write_line(answer(json.loads(line)))
    server.close()


def _write_line(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
