"""An endpoint for the tests of this folder, and a client that speaks to it as short sentences."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from tests.forks import ForkedEndpoint

INSTANCES = {"MasterInstanceType": "m6g.xlarge", "InstanceCount": 1, "KeepJobFlowAliveWhenNoSteps": True}
LONG_AGO_SECONDS = 300.0


def await_true(condition: Any, what: str) -> Any:
    """Return the condition's value as soon as it is true; the limit only turns a hang into a failure."""
    deadline = time.monotonic() + LONG_AGO_SECONDS
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"never happened: {what}")


def tagged(tag: str) -> list[psutil.Process]:
    """Return the living processes that have a tag in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and any(tag in word for word in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


class Emr:
    """What the tests do with an endpoint."""

    await_true = staticmethod(await_true)
    tagged = staticmethod(tagged)

    def __init__(self, url: str, state_dir: Path, log_dir: Path) -> None:
        self.url = url
        self.state_dir = state_dir
        self.log_dir = log_dir
        self.client = self.client_of("eu-west-3")

    def client_of(self, region: str, **options: Any) -> Any:
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return boto3.client("emr", region_name=region, endpoint_url=self.url, **keys, **options)

    def request(self, **overrides: Any) -> dict[str, Any]:
        instances = INSTANCES | overrides.pop("instances", {})
        base = {
            "Name": "fruits",
            "ReleaseLabel": "emr-spark-8.1.0",
            "ServiceRole": "service",
            "JobFlowRole": "nodes",
            "LogUri": f"file://{self.log_dir}",
            "Instances": instances,
        }
        return {key: value for key, value in (base | overrides).items() if value is not None}

    def create(self, **overrides: Any) -> str:
        return str(self.client.run_job_flow(**self.request(**overrides))["JobFlowId"])

    @staticmethod
    def step(*argv: str, name: str = "step", action: str | None = "CONTINUE") -> dict[str, Any]:
        config: dict[str, Any] = {"Name": name, "HadoopJarStep": {"Jar": "command-runner.jar", "Args": list(argv)}}
        return config | ({"ActionOnFailure": action} if action else {})

    def bash(self, script: str, **options: Any) -> dict[str, Any]:
        return self.step("bash", "-c", script, **options)

    def add(self, cluster: str, *steps: dict[str, Any]) -> list[str]:
        return list(self.client.add_job_flow_steps(JobFlowId=cluster, Steps=list(steps))["StepIds"])

    def ensure_security_configuration(self, name: str) -> None:
        names = [item["Name"] for item in self.client.list_security_configurations()["SecurityConfigurations"]]
        if name not in names:
            self.client.create_security_configuration(Name=name, SecurityConfiguration="{}")

    def release_labels(self, **request: Any) -> list[str]:
        labels: list[str] = []
        token: dict[str, str] = {}
        while token or not labels:
            answer = self.client.list_release_labels(**request, **token)
            labels += answer["ReleaseLabels"]
            if "NextToken" not in answer:
                break
            token = {"NextToken": answer["NextToken"]}
        return labels

    def cluster(self, cluster: str) -> dict[str, Any]:
        return dict(self.client.describe_cluster(ClusterId=cluster)["Cluster"])

    def state(self, cluster: str) -> str:
        return str(self.cluster(cluster)["Status"]["State"])

    def status(self, cluster: str, step: str) -> dict[str, Any]:
        return dict(self.client.describe_step(ClusterId=cluster, StepId=step)["Step"]["Status"])

    def await_step(self, cluster: str, step: str, *states: str) -> dict[str, Any]:
        wanted = states or ("COMPLETED", "FAILED", "CANCELLED")
        await_true(lambda: self.status(cluster, step)["State"] in wanted, f"step {step} in {wanted}")
        return self.status(cluster, step)

    def await_cluster(self, cluster: str, *states: str) -> dict[str, Any]:
        await_true(lambda: self.state(cluster) in states, f"cluster {cluster} in {states}")
        return dict(self.cluster(cluster)["Status"])

    def folder(self, cluster: str, step: str) -> Path:
        return self.state_dir / "clusters" / cluster / "steps" / step

    def await_output(self, cluster: str, step: str, text: str, log: str = "stdout") -> None:
        path = self.folder(cluster, step) / log
        await_true(lambda: path.exists() and text in path.read_text(encoding="utf-8"), f"{text!r} in {path}")

    def delivered(self, *parts: str) -> Path:
        return self.log_dir.joinpath(*parts)

    def faults(self, method: str, path: str = "", scenario: dict[str, Any] | None = None) -> Any:
        body = None if scenario is None else json.dumps(scenario).encode()
        request = urllib.request.Request(f"{self.url}/local-emr/faults{path}", data=body, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def set_faults(self, scenario: dict[str, Any]) -> None:
        self.faults("PUT", scenario=scenario)


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One endpoint for all tests that need none of their own; waiting timers run 600 times faster: 60 s are 0.1 s."""
    root = tmp_path_factory.mktemp("emr é 100% #1")
    arguments = ["--clock-rate", "600", "--interrupt-grace", "1", "--master", "local[1]"]
    with ForkedEndpoint(root / "state", arguments) as process:
        yield Emr(process.url, root / "state", root / "logs of été")


@pytest.fixture
def start_endpoint(tmp_path: Path) -> Any:
    """A function that starts an endpoint of the test's own: ``start_endpoint(*arguments) -> (process, emr)``."""
    started = []

    def start(*arguments: str, **options: Any) -> tuple[ForkedEndpoint, Emr]:
        state_dir = tmp_path / f"state {len(started)}"
        process = ForkedEndpoint(state_dir, arguments, **options)
        started.append(process)
        return process, Emr(process.url, state_dir, tmp_path / "logs")

    yield start
    for process in started:
        process.stop()


@pytest.fixture
def emr(endpoint: Emr) -> Any:
    """The endpoint, with nothing going wrong, and without clusters of earlier tests."""
    endpoint.set_faults({})
    yield endpoint
    endpoint.set_faults({})
    active = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
    for summary in endpoint.client.list_clusters(ClusterStates=active)["Clusters"]:
        ids = [summary["Id"]]
        endpoint.client.set_termination_protection(JobFlowIds=ids, TerminationProtected=False)
        endpoint.client.terminate_job_flows(JobFlowIds=ids)


@pytest.fixture(scope="session")
def emr_client() -> type[Emr]:
    """A client of an endpoint that a test starts itself: ``emr_client(url, state_dir, log_dir)``."""
    return Emr
