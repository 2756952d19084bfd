"""The service of ``make up``: it starts the EMR endpoint and Airflow's components, and restarts what ends.

All of them are child processes, and none outlives this process, however it exits. Each component has a guard, which the
kernel signals when this process exits; the endpoint watches its parent itself. If a guard is killed, its component
becomes a child of this process, which kills it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import psutil

from include.settings.dag_ids import FEATURES_DAG, FORGET_DAG, REAPER_DAG
from local.airflow.api import AirflowApi
from local.airflow.components import Component, component_commands, fresh_log
from local.airflow.configuration import USER, component_environment, read_password
from local.airflow.descendants import ignore_stop_signals, kill_other_children
from local.emr.process import EndpointProcess
from local.environment import UNREACHABLE_URL
from local.processes.ports import free_ports

STATE_VARIABLE = "LOCAL_SERVICE_STATE"
"""Environment variable of Airflow's components and their tasks: the state folder of their service."""

DAGS = (FEATURES_DAG, FORGET_DAG, REAPER_DAG)
"""The DAGs that the local service waits for and unpauses."""

START_SECONDS = 300.0
POLL_SECONDS = 0.25


class ServiceError(RuntimeError):
    """The service cannot start or continue; the message says what to do."""


@dataclass
class Service:
    """The EMR endpoint and Airflow's components.

    Parameters
    ----------
    state : Path
        Folder of Airflow's database, the logs and the endpoint's state.
    port : int
        Port of the UI.
    environment : callable
        Returns the environment of Airflow and the endpoint, given the URL of the EMR endpoint.
    report : callable
        Prints one line for the user.
    """

    state: Path
    port: int
    environment: Callable[[str], dict[str, str]]
    report: Callable[[str], None]
    _endpoint: EndpointProcess | None = None
    _endpoint_port: int = 0
    _components: list[Component] = field(default_factory=list)
    _other_children: set[int] = field(default_factory=set)
    """Children that existed before the start: the S3 store, if there is one."""

    @property
    def url(self) -> str:
        """URL of the UI and of Airflow's API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def logs(self) -> Path:
        """Folder of the components' logs."""
        return self.state / "logs" / "service"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything, and return when a run can be triggered.

        Raises
        ------
        ServiceError
            If a component does not start.
        """
        self._other_children = {child.pid for child in psutil.Process().children()}
        self.logs.mkdir(parents=True, exist_ok=True)
        (self._endpoint_port,) = free_ports(1)
        self._start_endpoint()
        passwords = self.state / "airflow" / "passwords.json"
        api = AirflowApi(self.url, USER, read_password(passwords))
        since = datetime.now(UTC).replace(second=0, microsecond=0)
        environ = self.environment(f"http://127.0.0.1:{self._endpoint_port}")
        environ |= component_environment(self.port, passwords, since) | {STATE_VARIABLE: str(self.state)}
        self._components = [
            Component(name, command, environ, self.state / "airflow", fresh_log(self.logs / f"{name}.log"))
            for name, command in component_commands().items()
        ]
        by_name = {component.name: component for component in self._components}
        self.report("starting Airflow: dag-processor and api-server")
        started = datetime.now(UTC)
        by_name["dag-processor"].start()
        by_name["api-server"].start()
        self._wait("the API server answers", lambda: api.health().get("api-server") == "healthy")
        # The scheduler starts a due run at once. The due date in the database is outdated until the DAG is parsed.
        self._wait("the DAGs are parsed", lambda: all(self._parsed_since(started, api, dag_id) for dag_id in DAGS))
        for dag_id in DAGS:
            api.unpause(dag_id)
        self.report("the DAGs are parsed and unpaused; starting the scheduler")
        by_name["scheduler"].start()
        needed = ("metadatabase", "dag-processor", "scheduler")
        self._wait("the scheduler is healthy", lambda: all(api.health().get(name) == "healthy" for name in needed))
        by_name["triggerer"].start()  # for DAGs that a user adds; ours have no deferrable tasks

    def watch(self) -> None:
        """Restart what ends, until a signal stops this process.

        Raises
        ------
        ServiceError
            If the S3 store has ended: the lake is not available without it.
        """
        while True:
            for component in self._components:
                component.restart_if_ended(self.report)
            if self._endpoint is not None and not psutil.pid_exists(self._endpoint.pid):
                self.report("the local EMR endpoint has ended unexpectedly; restarting it")
                self._start_endpoint()
            lost = [pid for pid in self._other_children if not psutil.pid_exists(pid)]
            if lost:
                raise ServiceError(
                    f"the local S3 store has ended unexpectedly; see {self.state / 's3'}, then run `make up` again"
                )
            self._kill_orphans()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop everything; Airflow first, so that no task calls an endpoint that is stopping."""
        ignore_stop_signals()
        for component in reversed(self._components):
            component.interrupt()
        for component in self._components:
            if component.process is not None:
                component.process.wait()
        if self._endpoint is not None:
            self._endpoint.stop()

    def _start_endpoint(self) -> None:
        self._endpoint = EndpointProcess(
            self.state / "emr" / "service",
            ["--port", str(self._endpoint_port)],
            environment=self.environment(UNREACHABLE_URL),  # it calls no other endpoint
        )

    def _kill_orphans(self) -> None:
        """Kill the children that lost their guard, before a restarted component conflicts with them."""
        known = self._other_children | {component.process.pid for component in self._components if component.process}
        known |= {self._endpoint.pid} if self._endpoint is not None else set()
        kill_other_children(known)

    def _parsed_since(self, started: datetime, api: AirflowApi, dag_id: str) -> bool:
        """Return whether Airflow has parsed a DAG since a time."""
        errors = api.import_errors()
        if errors:
            raise ServiceError(f"a DAG file cannot be imported:\n{errors[-1]}")
        parsed = api.last_parsed(dag_id)
        return parsed is not None and parsed > started

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            for component in self._components:
                if component.process is not None and not component.alive:
                    raise ServiceError(f"the {component.name} ended; the end of {component.log}:\n{component.tail()}")
            if time.monotonic() > deadline:
                raise ServiceError(f"after {START_SECONDS:g} s still not true: {what}; see the logs in {self.logs}")
            time.sleep(POLL_SECONDS)
