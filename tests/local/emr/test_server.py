"""The server: its command line, its record, and the requests that it refuses."""

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


@pytest.mark.slow
def test_wrong_options_are_rejected_and_help_lists_them(tmp_path: Path) -> None:
    assert "--clock-rate" in command("--help").stdout
    for option, value, named in (("--host", "0.0.0.0", "--allow-remote"), ("--clock-rate", "0", "--clock-rate")):
        refused = command("--port", "0", "--state-dir", str(tmp_path), option, value)
        assert refused.returncode == 2
        assert named in refused.stderr.splitlines()[-1]


def test_only_loopback_addresses_are_local() -> None:
    hosts = ("127.0.0.1", "127.8.9.1", "::1", "localhost", "0.0.0.0", "example.org")
    assert [is_loopback(host) for host in hosts] == [True, True, True, True, False, False]


def test_the_record_and_the_ready_line_name_the_url(start_endpoint: Any) -> None:
    process, emr = start_endpoint()
    record = json.loads((emr.state_dir / "endpoint.json").read_text())
    assert record == {"url": process.url, "pid": process.pid}
    assert f"local EMR endpoint ready at {process.url}" in process.log_file.read_text().splitlines()
    assert fetch(f"{process.url}/healthz") == (200, {"status": "ok"})


def test_a_directory_or_a_port_that_is_in_use_is_refused(start_endpoint: Any, tmp_path: Path) -> None:
    process, emr = start_endpoint()
    port = process.url.rpartition(":")[2]
    for options, message in (
        (("--port", "0", "--state-dir", str(emr.state_dir)), f"another endpoint runs in {emr.state_dir}"),
        (("--port", port, "--state-dir", str(tmp_path / "other")), f"cannot listen on 127.0.0.1:{port}"),
    ):
        second = command(*options)
        assert second.returncode == 2
        assert message in second.stderr


def test_requests_of_web_pages_are_refused(emr: Any) -> None:
    headers = {"Origin": "http://evil.example", "X-Amz-Target": "ElasticMapReduce.ListClusters"}
    for method in ("POST", "OPTIONS"):
        status, body = fetch(emr.url, data=b"{}", method=method, headers=headers)
        assert (status, body["__type"]) == (403, "AccessDeniedException")
    status, _ = fetch(f"{emr.url}/local-emr/faults", data=b"{}", method="PUT", headers={"Origin": "null"})
    assert status == 403


def test_other_services_are_refused(emr: Any) -> None:
    sqs = boto3.client(
        "sqs", region_name="eu-west-3", endpoint_url=emr.url, aws_access_key_id="test", aws_secret_access_key="test"
    )
    with pytest.raises(ClientError, match="speaks the Amazon EMR API only"):
        sqs.list_queues()
    status, _ = fetch(f"{emr.url}/moto-api/reset", data=b"", method="POST")
    assert status == 400, "moto's own routes are not served"
