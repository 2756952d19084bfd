"""A separate stack for tests, and a client for its Airflow; both need a container engine."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local.processes.ports import free_ports
from tests.compose.compose_files import COMPOSE_FILE, ENV_EXAMPLE, load_script, read_env, run

STAND_INS = {"PYTHON_IMAGE": "fruits-base-python:local", "POSTGRES_IMAGE": "fruits-base-postgres:local"}
"""Base images that tests/compose/make_base_images.sh imports if no image registry is available."""

FINAL_STATES = {"success", "failed"}


class StackError(RuntimeError):
    """The stack misbehaves; the message quotes Compose or Airflow."""


def missing_engine() -> str | None:
    """Return the reason why the stack cannot start on this machine, or None."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    done = run("docker", "info")
    if done.returncode != 0:
        return f"no container engine answers: {(done.stderr.strip().splitlines() or ['docker info failed'])[-1]}"
    return None


def compose_command() -> list[str] | None:
    """Return the Compose command of this machine, or None."""
    if shutil.which("docker") and run("docker", "compose", "version", "--short").stdout.strip():
        return ["docker", "compose"]
    standalone = shutil.which("docker-compose")
    if standalone and run(standalone, "version", "--short").stdout.strip().lstrip("v").startswith(("2", "5")):
        return [standalone]
    return None


class Stack:
    """A stack with separate project name, ports, secrets, image tag and volumes; it shares image layers with others."""

    def __init__(self, command: list[str], folder: Path, **variables: str) -> None:
        text = load_script("scripts/write_env.py").fill_in(ENV_EXAMPLE.read_text(encoding="utf-8"))
        ui_port, store_port = map(str, free_ports(2))
        self.env = read_env(text) | {"UI_PORT": ui_port, "STORE_PORT": store_port}
        self.env["IMAGE_TAG"] = os.environ.get("IMAGE_TAG", "test")
        for name, image in STAND_INS.items():
            if run("docker", "image", "inspect", image).returncode == 0:
                self.env[name] = image
        self.env |= variables
        self.project = f"fruits-test-{os.getpid()}"
        file = folder / "stack.env"
        file.write_text("".join(f"{name}={value}\n" for name, value in self.env.items()), encoding="utf-8")
        self._command = [*command, "--project-name", self.project, "--env-file", str(file)]
        self._command += ["--file", str(COMPOSE_FILE)]
        self._clean = {name: value for name, value in os.environ.items() if name not in self.env}

    def compose(self, *arguments: str, timeout_seconds: float = 1_800) -> str:
        """Run Compose and return its output.

        Raises
        ------
        StackError
            If it fails.
        """
        done = run(*self._command, *arguments, env=self._clean, timeout=timeout_seconds)
        if done.returncode != 0:
            raise StackError(f"compose {' '.join(arguments)}: {done.stdout[-2_000:]}{done.stderr[-4_000:]}")
        return done.stdout

    def build(self) -> None:
        """Build the images, unless the environment variable IMAGE_TAG names existing ones.

        Raises
        ------
        StackError
            If a build fails.
        """
        if "IMAGE_TAG" not in os.environ:
            # Not in parallel: a builder without BuildKit would build the shared stages several times.
            self.compose("--parallel", "1", "build")

    def up(self) -> None:
        """Start all services and wait until they are healthy.

        Raises
        ------
        StackError
            If a service does not become healthy; the message has the last lines of the services' logs.
        """
        try:
            self.compose("up", "--detach", "--wait", "--wait-timeout", "600")
        except StackError as error:
            # `--wait` reports a service that exits with code 0 as a failure (docker/compose #10596).
            states = self.states()
            if states.pop("init", None) != "exited 0" or set(states.values()) != {"running healthy"}:
                raise StackError(f"{error}\n{self.states()}\n{self.compose('logs', '--tail', '30')}") from None

    def states(self) -> dict[str, str]:
        """Return each service's state with its health or exit code."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        states = {}
        for record in map(json.loads, lines):
            detail = record["Health"] if record["State"] == "running" else str(record["ExitCode"])
            states[record["Service"]] = f"{record['State']} {detail}".strip()
        return states

    def volumes(self) -> set[str]:
        """Return the names of the project's volumes."""
        label = f"label=com.docker.compose.project={self.project}"
        listing = run("docker", "volume", "ls", "--quiet", "--filter", label)
        listing.check_returncode()
        return set(listing.stdout.split())

    def s3(self) -> Any:
        """Return an S3 client for the store's published port."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.env['STORE_PORT']}",
            region_name="eu-west-3",
            aws_access_key_id=self.env["STORE_ACCESS_KEY"],
            aws_secret_access_key=self.env["STORE_SECRET_KEY"],
        )

    def published(self) -> tuple[str, dict[str, str]]:
        """Return the slug of the published run, and the ETag of each published file."""
        s3 = self.s3()
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket="fruits", Prefix="results")
        files = {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", [])}
        current = json.loads(s3.get_object(Bucket="fruits", Key="current.json")["Body"].read())
        return str(current["run"]), files

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the published state."""
        s3 = self.s3()
        current = json.loads(s3.get_object(Bucket="fruits", Key="current.json")["Body"].read())
        found: dict[str, Any] = json.loads(s3.get_object(Bucket="fruits", Key=current["manifest"])["Body"].read())
        return found


class AirflowClient:
    """Airflow's REST API v2, with the login of .env."""

    def __init__(self, stack: Stack) -> None:
        self._root = f"http://127.0.0.1:{stack.env['UI_PORT']}"
        login = {"username": stack.env["UI_USER"], "password": stack.env["UI_PASSWORD"]}
        self._token = ""
        self._token = self.call("POST", "/auth/token", login)["access_token"]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request and return the JSON of the response."""
        request = urllib.request.Request(
            self._root + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
        )
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())

    def dag(self) -> dict[str, Any]:
        """Return the DAG's record; wait until the dag-processor has parsed the file."""
        return dict(wait_for("the DAG", lambda: self._get_or_none("/api/v2/dags/fruit_features"), 180))

    def _get_or_none(self, path: str) -> Any:
        try:
            return self.call("GET", path)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def runs(self) -> list[dict[str, Any]]:
        """Return the DAG's runs."""
        return list(self.call("GET", "/api/v2/dags/fruit_features/dagRuns?limit=100")["dag_runs"])

    def trigger(self, **conf: Any) -> str:
        """Trigger a run as the form does; return its id."""
        body = {"logical_date": None, "conf": conf}
        return str(self.call("POST", "/api/v2/dags/fruit_features/dagRuns", body)["dag_run_id"])

    def tasks(self, run_id: str) -> dict[str, dict[str, Any]]:
        """Map each task id of the run to its task instance."""
        path = f"/api/v2/dags/fruit_features/dagRuns/{run_id}/taskInstances?limit=100"
        return {item["task_id"]: item for item in self.call("GET", path)["task_instances"]}

    def log_of(self, run_id: str, task_id: str, try_number: int) -> str:
        """Return a task's log."""
        path = f"/api/v2/dags/fruit_features/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        return json.dumps(self.call("GET", path)["content"])

    def state(self, run_id: str) -> str:
        """Return the run's state."""
        return str(self.call("GET", f"/api/v2/dags/fruit_features/dagRuns/{run_id}")["state"])

    def wait_for_task(self, run_id: str, task_id: str, states: set[str], seconds: float = 300) -> None:
        """Wait until a task is in one of the states."""
        wait_for(f"{task_id} to be {states}", lambda: self.tasks(run_id)[task_id]["state"] in states, seconds)

    def wait_for_end(self, run_id: str, seconds: float = 1_200) -> str:
        """Wait for the end of the run; return its final state."""
        return str(
            wait_for(
                "the run's end", lambda: (s := self.state(run_id)) in FINAL_STATES and s, seconds, self._restarting
            )
        )

    _restarting = (urllib.error.URLError, ConnectionError, TimeoutError)
    """Errors that a client may get while the API server restarts."""


def wait_for(what: str, check: Callable[[], Any], seconds: float, ignored: tuple[type[Exception], ...] = ()) -> Any:
    """Poll until ``check`` returns a true value; return that value.

    Raises
    ------
    StackError
        At the timeout.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if value := check():
                return value
        except ignored:
            pass
        time.sleep(1)
    raise StackError(f"waited {seconds:.0f} s for {what}")
