"""`make up` for tests: Airflow with its scheduler on this machine, controlled through its REST API."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import httpx
import psutil

from include.lake.layout import run_slug
from include.settings.dag_ids import REAPER_DAG
from tests.end_to_end.conftest import DAG_ID, copy_database, put_pictures

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_SECONDS = 300.0
ENDED = {"success", "failed"}
PICTURES, BROKEN = 24, 3
CONF = {
    "variance_target": 0.93,
    "image_pattern": "*_100.jpg",
    "max_reject_ratio": 0.2,
    "images_per_task": 8,
    "full_run": True,  # the photos are those of the earlier runs
}
"""The pattern excludes one picture. With the default ratio, the broken pictures would fail the run."""


def command(name: str, folder: Path, *arguments: str, timeout: float = TIMEOUT_SECONDS) -> subprocess.CompletedProcess:
    """Run the program of `make up` or `make down`."""
    program = [sys.executable, "-m", "local.run.service", name, "--state", str(folder / "state"), *arguments]
    return subprocess.run(
        program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False
    )


def up(folder: Path, port: int, *arguments: str) -> subprocess.CompletedProcess:
    places = ["--images", str(folder / "photos"), "--lake", str(folder / "lake"), "--port", str(port)]
    return command("up", folder, *places, *arguments)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def processes_of(folder: Path) -> list[list[str]]:
    """Return the command lines of the processes that use a folder, by command line or by AIRFLOW_HOME."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error):
            places = [*(process.info["cmdline"] or []), process.environ().get("AIRFLOW_HOME", "")]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(folder) in place for place in places):
                found.append(process.info["cmdline"])
    return found


def words_of(process: psutil.Process) -> list[str]:
    """Return the command line of a process; empty if the process has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def wait_until(condition, what: str, seconds: float = TIMEOUT_SECONDS, interval: float = 0.3):
    """Return the value of a condition as soon as it is true; check it at this interval, in seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"after {seconds:g} s still not true: {what}"
        time.sleep(interval)
    return value


@dataclass
class Service:
    """A running service and a client that is logged in."""

    folder: Path
    port: int
    output: str
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, trust_env=False)
        [(user, password)] = json.loads((self.folder / "state/airflow/passwords.json").read_text()).items()
        answer = self.client.post("/auth/token", json={"username": user, "password": password})
        answer.raise_for_status()
        self.client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    @property
    def lake(self) -> Path:
        return self.folder / "lake"

    @property
    def endpoint(self) -> str:
        return json.loads((self.folder / "state/emr/service/endpoint.json").read_text())["url"]

    def call(self, method: str, path: str, body: Any = None) -> dict:
        answer = self.client.request(method, f"/api/v2{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def trigger(self, conf: dict | None = None) -> str:
        return self.call("POST", f"/dags/{DAG_ID}/dagRuns", {"logical_date": None, "conf": conf or {}})["dag_run_id"]

    def state(self, run_id: str) -> str:
        return self.call("GET", f"/dags/{DAG_ID}/dagRuns/{quote(run_id)}")["state"]

    def mark_failed(self, run_id: str) -> None:
        self.call("PATCH", f"/dags/{DAG_ID}/dagRuns/{quote(run_id)}", {"state": "failed"})

    def tasks(self, run_id: str) -> dict[str, dict]:
        found = self.call("GET", f"/dags/{DAG_ID}/dagRuns/{quote(run_id)}/taskInstances")["task_instances"]
        return {task["task_id"]: task for task in found}

    def states(self, run_id: str) -> dict[str, str]:
        return {name: task["state"] for name, task in self.tasks(run_id).items()}

    def clear(self, run_id: str, task: str) -> set[str]:
        """Clear a task with its downstream tasks, as the UI does by default; return the cleared tasks."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task], "include_downstream": True}
        found = self.call("POST", f"/dags/{DAG_ID}/clearTaskInstances", body | {"only_failed": False})
        return {task["task_id"] for task in found["task_instances"]}

    def clear_alone(self, run_id: str, task: str) -> set[str]:
        """Clear a task without its downstream tasks; Airflow also clears its setups and teardowns."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": [task], "only_failed": False}
        found = self.call("POST", f"/dags/{DAG_ID}/clearTaskInstances", body)
        return {task["task_id"] for task in found["task_instances"]}

    def finish(self, run_id: str) -> str:
        wait_until(lambda: self.state(run_id) in ENDED, f"{run_id} has ended", interval=1.5)
        return self.state(run_id)

    def log(self, run_id: str, task: str) -> str:
        number = self.tasks(run_id)[task]["try_number"]
        path = f"/dags/{DAG_ID}/dagRuns/{quote(run_id)}/taskInstances/{task}/logs/{number}"
        return "\n".join(
            " ".join([str(line["event"]), *(error["exc_value"] for error in line.get("error_detail") or [])])
            for line in self.call("GET", path)["content"]
        )

    def links(self, run_id: str, task: str) -> dict[str, str | None]:
        path = f"/dags/{DAG_ID}/dagRuns/{quote(run_id)}/taskInstances/{task}/links"
        return self.call("GET", path)["extra_links"]

    def clusters(self) -> dict[str, str]:
        emr = boto3.client("emr", region_name="eu-west-3", endpoint_url=self.endpoint)
        return {cluster["Name"]: cluster["Status"]["State"] for cluster in emr.list_clusters()["Clusters"]}

    def clusters_of(self, run_id: str) -> list[str]:
        """Return the states of the clusters of a run, the newest first."""
        emr = boto3.client("emr", region_name="eu-west-3", endpoint_url=self.endpoint)
        name = f"fruit-features {self.run_folder(run_id).name}"
        pages = emr.get_paginator("list_clusters").paginate()
        return [item["Status"]["State"] for page in pages for item in page["Clusters"] if item["Name"] == name]

    @contextlib.contextmanager
    def faults(self, scenario: dict) -> Iterator[None]:
        httpx.put(f"{self.endpoint}/local-emr/faults", json=scenario, trust_env=False).raise_for_status()
        yield
        httpx.delete(f"{self.endpoint}/local-emr/faults", trust_env=False).raise_for_status()

    def fault_matched(self, kind: str) -> bool:
        rules = httpx.get(f"{self.endpoint}/local-emr/faults", trust_env=False).json()[kind]
        return all(rule["matched"] for rule in rules)

    @contextlib.contextmanager
    def variable(self, key: str, value: str) -> Iterator[None]:
        """Set an Airflow Variable within a block."""
        self.call("POST", "/variables", {"key": key, "value": value})
        yield
        self.client.delete(f"/api/v2/variables/{key}").raise_for_status()

    def reap(self) -> tuple[str, str]:
        """Run the reaper; return its state and its log."""
        runs = f"/dags/{REAPER_DAG}/dagRuns"
        run_id = self.call("POST", runs, {"logical_date": None})["dag_run_id"]
        wait_until(lambda: self.call("GET", f"{runs}/{run_id}")["state"] in ENDED, "the reaper has ended", interval=1)
        content = self.call("GET", f"{runs}/{run_id}/taskInstances/reap_clusters/logs/1")["content"]
        return self.call("GET", f"{runs}/{run_id}")["state"], json.dumps(content)

    def manifests(self, run_id: str) -> list[dict[str, Any]]:
        """Return the manifests of the states that a run has published; one at most, if it is not repeated."""
        files = self.lake.glob(f"manifests/*-{self.run_folder(run_id).name}.json")
        return [json.loads(path.read_text()) for path in files]

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of a run in the lake."""
        run_after = self.call("GET", f"/dags/{DAG_ID}/dagRuns/{quote(run_id)}")["run_after"]
        return self.lake / "runs" / run_slug(run_id, datetime.fromisoformat(run_after))


def prepare_folder(folder: Path, models: Path, database: Path) -> None:
    """Put photos into a folder, some of them broken, with the exported models and a migrated database."""
    put_pictures(folder / "photos")
    for number in range(BROKEN):
        (folder / "photos" / "Banana" / f"broken{number}_100.jpg").write_text("not an image")
    (folder / "state").mkdir()
    (folder / "state" / "models").symlink_to(models)
    copy_database(database, folder / "state" / "airflow")


@contextlib.contextmanager
def serving(folder: Path, port: int, *arguments: str) -> Iterator[Service]:
    """Start a service, and stop it whatever happens."""
    try:
        started = up(folder, port, *arguments)
        assert started.returncode == 0, started.stdout
        service = Service(folder, port, started.stdout)
        with contextlib.closing(service.client):
            yield service
    finally:
        command("down", folder)
