"""Clients that others wrote, from the package index: each runs its program in ``docs/local-emr.md``.

``make soak`` installs them. In ``make test``, boto3 and Airflow call the same actions.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from benchmarks.rivals import environments

pytestmark = [pytest.mark.slow, pytest.mark.soak]

REPOSITORY = Path(__file__).resolve().parents[4]
REQUIREMENTS = Path(__file__).with_name("clients.txt")
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "eu-west-3"}


def program(client: str) -> str:
    """Return the program of a client in the documentation."""
    page = (REPOSITORY / "docs" / "local-emr.md").read_text(encoding="utf-8")
    section = page.partition(f"\n### {client}\n")[2].partition("\n#")[0]
    [code] = re.findall(r"```(?:bash|python)\n(.*?)```", section, re.DOTALL)
    return str(code)


@pytest.fixture(scope="session")
def clients() -> Path:
    """The folder with the clients' programs, in an environment that is installed once and reused."""
    try:
        return environments.prepared(REQUIREMENTS).parent
    except SystemExit as error:
        pytest.skip(f"the clients cannot be installed from the package index: {error}")


@pytest.fixture
def run(clients: Path, tmp_path: Path) -> Any:
    """A function that runs a program with the clients' Python or with bash, as a user of the endpoint would."""
    kept = {name: os.environ[name] for name in ("LC_ALL", "NO_PROXY", "no_proxy") if name in os.environ}
    home = {"HOME": str(tmp_path), "PATH": f"{clients}:/usr/bin:/bin"}

    def execute(emr: Any, interpreter: str, code: str, **variables: str) -> None:
        environment = {**kept, **home, **KEYS, "AWS_ENDPOINT_URL_EMR": emr.url, **variables}
        file = tmp_path / "program"
        file.write_text(code, encoding="utf-8")
        command = [interpreter, *(["-e"] if interpreter == "bash" else []), str(file)]
        result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr

    return execute


@pytest.fixture(scope="module")
def other_services() -> Any:
    """The URL of an endpoint for S3, with the bucket of mrjob's files, and for STS."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("s3", endpoint_url=url, region_name="eu-west-3", **keys)
    client.create_bucket(Bucket="mrjob", CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    client.close()
    yield url
    server.stop()


def newest_cluster(emr: Any) -> tuple[str, list[tuple[str, list[str]]]]:
    """Return the state of the newest cluster once it has ended, and the states and arguments of its steps."""
    cluster = max(
        emr.client.list_clusters()["Clusters"], key=lambda item: item["Status"]["Timeline"]["CreationDateTime"]
    )["Id"]
    state = emr.await_cluster(cluster, "TERMINATED", "TERMINATED_WITH_ERRORS")["State"]
    steps = emr.client.list_steps(ClusterId=cluster)["Steps"]
    return state, [(step["Status"]["State"], step["Config"]["Args"]) for step in steps]


HELLO = ("TERMINATED", [("COMPLETED", ["echo", "hello"])])


@pytest.mark.parametrize(("client", "interpreter"), [("AWS CLI", "bash"), ("boto3", "python")])
def test_the_client_creates_a_cluster_runs_a_step_and_terminates(
    emr: Any, run: Any, client: str, interpreter: str
) -> None:
    run(emr, interpreter, program(client))
    assert newest_cluster(emr) == HELLO


def test_awswrangler_creates_a_cluster_that_can_be_debugged_runs_a_step_and_terminates(
    emr: Any, run: Any, other_services: str
) -> None:
    run(emr, "python", program("awswrangler"), AWS_ENDPOINT_URL_STS=other_services)
    state, [hello, debugging] = newest_cluster(emr)
    assert (state, [hello]) == HELLO
    assert debugging[0] == "COMPLETED"


def test_mrjob_adds_its_step_while_the_cluster_starts(start_endpoint: Any, run: Any, other_services: str) -> None:
    _, emr = start_endpoint("--boot-seconds", "20")
    run(emr, "python", program("mrjob"), AWS_ENDPOINT_URL_S3=other_services)
    assert newest_cluster(emr) == HELLO
