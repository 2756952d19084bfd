"""What ``make up`` leaves in the background: the endpoint, the store and Airflow's components, kept running.

Everything is a child of this process and ends with it, however it ends: the components run under a guard each, which
the kernel tells when this process is gone, and the endpoint and the store watch their parent themselves. What loses its
guard becomes a child of this process and is ended too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from include.settings.dag_ids import FEATURES_DAG, REAPER_DAG
from local.airflow.api import AirflowApi
from local.airflow.components import USER, component_commands, component_environment, read_password
from local.emr.process import EndpointProcess
from local.processes import guard
from local.processes.ports import free_ports

logger = logging.getLogger(__name__)

MARK = "LOCAL_SERVICE_STATE"
"""Environment variable that Airflow's components and their tasks carry: the state folder of the service they are of."""

DAGS = (FEATURES_DAG, REAPER_DAG)
"""The DAGs that the local service waits for and unpauses."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START_SECONDS = 300.0
GRACE_SECONDS = 8.0
LOOK_SECONDS = 0.25
PAUSE_SECONDS = 5.0
"""Time before something that has ended by itself is started again."""


class ServiceError(RuntimeError):
    """The service cannot start; the message says what to do."""


@dataclass
class Component:
    """One of Airflow's components, under a guard."""

    name: str
    command: list[str]
    environ: dict[str, str]
    home: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    ended: float | None = None
    """When it was seen to have ended, on the monotonic clock."""

    def start(self) -> None:
        """Start it."""
        head = [sys.executable, "-I", guard.__file__, str(os.getpid()), str(GRACE_SECONDS), f"{self.log}.exit"]
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*head, *self.command],
                env=self.environ,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # a terminal's Ctrl-C is for this process, which ends the others in order
            )
        self.ended = None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def ask_to_end(self) -> None:
        """Ask it to end; its guard kills what is left after the grace."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-2_000:] if self.log.exists() else ""


@dataclass
class Service:
    """The endpoint and Airflow's components.

    Parameters
    ----------
    state : Path
        Folder of everything that is kept: Airflow's database and logs, the endpoint's record.
    port : int
        Port of the UI.
    environment : callable
        Returns the environment of the local run for an address of the EMR endpoint.
    say : callable
        Tells a person one line.
    """

    state: Path
    port: int
    environment: Callable[[str], dict[str, str]]
    say: Callable[[str], None]
    _endpoint: EndpointProcess | None = None
    _endpoint_port: int = 0
    _components: list[Component] = field(default_factory=list)
    _keep: set[int] = field(default_factory=set)
    """Children that are somebody else's to end."""

    @property
    def url(self) -> str:
        """Address of the UI and of Airflow's API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> Path:
        """Folder of the components' own logs."""
        return self.state / "logs" / "service"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything, and return when a run can be triggered.

        Raises
        ------
        ServiceError
            When something does not come up.
        """
        self._keep = {child.pid for child in psutil.Process().children()}
        self.logs.mkdir(parents=True, exist_ok=True)
        (self._endpoint_port,) = free_ports(1)
        self._start_endpoint()
        passwords = self.state / "airflow" / "passwords.json"
        api = AirflowApi(self.url, USER, read_password(passwords))
        since = datetime.now(UTC).replace(second=0, microsecond=0)
        environ = self.environment(f"http://127.0.0.1:{self._endpoint_port}")
        environ |= component_environment(self.port, passwords, since) | {MARK: str(self.state)}
        self._components = [
            Component(name, command, environ, self.state / "airflow", fresh_log(self.logs / f"{name}.log"))
            for name, command in component_commands().items()
        ]
        by_name = {component.name: component for component in self._components}
        self.say("starting Airflow: dag-processor and api-server")
        begun = datetime.now(UTC)
        by_name["dag-processor"].start()
        by_name["api-server"].start()
        self._wait("the API server answers", lambda: api.health().get("api-server") == "healthy")
        # The scheduler makes a run that is due at once, so the DAG has to be read again before it starts.
        self._wait("the DAGs are read", lambda: all(self._read_again(api, dag_id, begun) for dag_id in DAGS))
        for dag_id in DAGS:
            api.unpause(dag_id)
        self.say("the DAGs are there and not paused; starting the scheduler")
        by_name["scheduler"].start()
        needed = ("metadatabase", "dag-processor", "scheduler")
        self._wait("the scheduler is healthy", lambda: all(api.health().get(name) == "healthy" for name in needed))
        by_name["triggerer"].start()  # no task of ours needs it; other DAGs that are put here may

    def watch(self) -> None:
        """Keep everything running, until a signal tells this process to stop.

        Raises
        ------
        ServiceError
            When the store has ended: without its lake nothing works.
        """
        while True:
            for component in self._components:
                self._look_at(component)
            if self._endpoint is not None and not psutil.pid_exists(self._endpoint.pid):
                self.say("the local EMR endpoint has ended by itself; starting it again")
                self._start_endpoint()
            lost = [pid for pid in self._keep if not psutil.pid_exists(pid)]
            if lost:
                raise ServiceError(
                    f"the local S3 store has ended by itself; see {self.state / 's3'}, and `make up` again"
                )
            self._end_strays()
            time.sleep(LOOK_SECONDS)

    def stop(self) -> None:
        """End everything: Airflow first, so that nobody asks the endpoint for anything while it ends."""
        for number in STOP_SIGNALS:  # it is ending: once is enough
            signal.signal(number, signal.SIG_IGN)
        for component in reversed(self._components):
            component.ask_to_end()
        for component in self._components:
            if component.process is not None:
                component.process.wait()
        if self._endpoint is not None:
            self._endpoint.stop()

    def _start_endpoint(self) -> None:
        self._endpoint = EndpointProcess(
            self.state / "emr" / "service",
            ["--port", str(self._endpoint_port)],
            environment=self.environment("http://127.0.0.1:1"),  # nothing listens there: it calls no other
        )

    def _look_at(self, component: Component) -> None:
        if component.alive:
            return
        if component.ended is None:
            component.ended = time.monotonic()
            self.say(f"the {component.name} has ended by itself; starting it again (see {component.log})")
        elif time.monotonic() - component.ended >= PAUSE_SECONDS:
            component.start()

    def _end_strays(self) -> None:
        """End what a lost guard has left, before it meets its own successor."""
        known = self._keep | {component.process.pid for component in self._components if component.process}
        known |= {self._endpoint.pid} if self._endpoint is not None else set()
        for child in psutil.Process().children():
            if child.pid not in known:
                with contextlib.suppress(psutil.NoSuchProcess):
                    for process in (*child.children(recursive=True), child):
                        process.kill()
                    child.wait(timeout=10)

    def _read_again(self, api: AirflowApi, dag_id: str, begun: datetime) -> bool:
        """Tell whether a DAG was read since the start: before, its next run is as of the last time."""
        errors = api.import_errors()
        if errors:
            raise ServiceError(f"a DAG file cannot be read:\n{errors[-1]}")
        dag = api.dag(dag_id)
        return (
            dag is not None
            and dag["last_parsed_time"] is not None
            and datetime.fromisoformat(dag["last_parsed_time"]) > begun
        )

    def _wait(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_so():
            for component in self._components:
                if component.process is not None and not component.alive:
                    raise ServiceError(f"the {component.name} ended; the end of {component.log}:\n{component.tail()}")
            if time.monotonic() > deadline:
                raise ServiceError(f"waited {START_SECONDS:g} s in vain until {what}; see the logs in {self.logs}")
            time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def family() -> Iterator[None]:
    """Turn the signals that end a service into KeyboardInterrupt, adopt what loses its parent, and leave nothing."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in STOP_SIGNALS:
        signal.signal(number, interrupt)
    guard.become_subreaper()
    try:
        yield
    finally:
        guard.kill_descendants()


def check_port(port: int) -> None:
    """Refuse a port that somebody listens on.

    Raises
    ------
    ServiceError
        With the port, and how to choose another.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ServiceError(
                f"port {port} on 127.0.0.1 cannot be had ({error.strerror}); choose another: make up PORT={port + 1}"
            ) from None


def fresh_log(log: Path) -> Path:
    """Keep the log of the last time beside the new one, and no more than that; return the log."""
    if log.exists():
        log.replace(log.with_name(f"{log.name}.old"))
    return log
