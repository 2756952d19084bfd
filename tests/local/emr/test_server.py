"""The server: its command line, its record, and whom it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local.emr.process import ROOT
from local.emr.server import is_loopback


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local.emr", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )


def fetch(url: str, **options: Any) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **options)) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_help() -> None:
    shown = command("--help")
    assert shown.returncode == 0
    assert "--clock-rate" in shown.stdout


def test_a_port_that_others_reach_is_refused_unless_allowed(tmp_path: Path) -> None:
    refused = command("--port", "0", "--state-dir", str(tmp_path), "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert "--allow-remote" in refused.stderr


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("example.org", False),
    ],
)
def test_loopback_addresses(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_the_record_and_the_ready_line_name_the_url(start_endpoint: Any) -> None:
    process, emr = start_endpoint()
    record = json.loads((emr.state_dir / "endpoint.json").read_text())
    assert record == {"url": process.url, "pid": process.pid}
    assert f"local EMR endpoint ready at {process.url}" in process.log_file.read_text().splitlines()
    assert fetch(f"{process.url}/healthz") == (200, {"status": "ok"})


def test_a_second_endpoint_in_the_same_folder_is_refused(start_endpoint: Any) -> None:
    _, emr = start_endpoint()
    second = command("--port", "0", "--state-dir", str(emr.state_dir))
    assert second.returncode == 2
    assert "another endpoint runs in" in second.stderr


def test_a_taken_port_is_named(start_endpoint: Any, tmp_path: Path) -> None:
    process, _ = start_endpoint()
    port = process.url.rpartition(":")[2]
    second = command("--port", port, "--state-dir", str(tmp_path / "other"))
    assert second.returncode == 2
    assert f"127.0.0.1:{port}" in second.stderr


def test_a_web_page_is_refused(emr: Any) -> None:
    headers = {"Origin": "http://evil.example", "X-Amz-Target": "ElasticMapReduce.ListClusters"}
    for method in ("POST", "OPTIONS"):
        status, body = fetch(emr.url, data=b"{}", method=method, headers=headers)
        assert (status, body["__type"]) == (403, "AccessDeniedException")
    status, _ = fetch(f"{emr.url}/local-emr/faults", data=b"{}", method="PUT", headers={"Origin": "null"})
    assert status == 403


def test_other_services_are_refused(emr: Any) -> None:
    ec2 = boto3.client(
        "sqs", region_name="eu-west-3", endpoint_url=emr.url, aws_access_key_id="test", aws_secret_access_key="test"
    )
    with pytest.raises(ClientError, match="speaks the Amazon EMR API only"):
        ec2.list_queues()
    status, _ = fetch(f"{emr.url}/moto-api/reset", data=b"", method="POST")
    assert status == 400, "moto's own routes are not there"


def test_an_option_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    refused = command("--port", "0", "--state-dir", str(tmp_path), "--clock-rate", "0")
    assert refused.returncode == 2
    assert "--clock-rate" in refused.stderr
