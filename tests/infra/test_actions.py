"""infra/actions.yaml and the code: every request of the code is declared and allowed, and no other is."""

from __future__ import annotations

import ast
import gzip
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import boto3
import botocore.session
import pytest
import yaml

from include.artifacts.bundle import build_bundle
from include.artifacts.publishing import put_bundle
from include.autopsy.examination import read_log_tail, step_log_uri
from include.erasure import proof
from include.erasure.forget import forget
from include.erasure.request import read_request
from include.lake.access import check_access
from include.lake.commit import commit
from include.lake.garbage import collect_garbage
from include.lake.layout import Lake
from include.lake.models import name_published_model
from include.lake.objects import (
    LakePath,
    folder_bytes,
    read_json,
    write_bytes,
)
from include.lake.publication import find_previous, show_published
from include.lake.state import read_pointer
from include.lake.uploads import abort_uploads
from include.lake.verification import read_segments, verify_run
from include.settings.deployment import read_settings
from include.settings.parameters import RunParams
from spark_jobs.errors import JobError
from spark_jobs.images import changes
from spark_jobs.images.reading import reader
from spark_jobs.lake import storage
from tests.include.run_folders import found_of, manifest_of, write_run
from tests.include.run_records import JOBS, SLUG
from tests.infra import calls
from tests.infra.policies import BUCKET, PRINCIPALS, ROOT, decide, load_erasure_template, load_template, statements

pytestmark = pytest.mark.slow  # imports Airflow's provider and reads its source; starts a server

ACTIONS: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load((ROOT / "infra" / "actions.yaml").read_text())

NOT_REQUESTS = {
    "get_session": "AwsBaseHook.get_session creates a boto3 session; it sends no request to EMR",
    "get_template": "jinja2.Environment.get_template reads a template of the report",
}
"""Methods of this project or of hooks that have the name of a request but send none."""

WHERE = (
    "declare it in infra/actions.yaml (under `calls` of an action, with the reason), and allow the action in "
    "infra/fruit-features.yaml"
)


def declared(*principals: str) -> set[str]:
    return {call for name in principals or ACTIONS for entry in ACTIONS[name].values() for call in entry["calls"]}


@pytest.fixture(scope="module")
def called() -> dict[str, set[str]]:
    return {name: files for name, files in calls.discover().items() if name not in NOT_REQUESTS}


def test_every_request_that_the_code_makes_is_declared(called: dict[str, set[str]]) -> None:
    known = declared()
    for method, files in sorted(called.items()):
        requests = calls.operations()[method]
        assert set(requests) & known, f"{', '.join(sorted(files))} calls {' or '.join(requests)}: {WHERE}"


def test_no_request_is_declared_that_no_code_makes(called: dict[str, set[str]]) -> None:
    """The source does not name the requests on S3, which file systems send: the tests below record them."""
    made = {request for method in called for request in calls.operations()[method]}
    unused = {request for request in declared() if not request.startswith("s3.")} - made
    assert not unused, f"no code calls {', '.join(sorted(unused))}: remove it from infra/actions.yaml and the template"


def test_every_service_with_a_client_in_the_code_is_searched() -> None:
    for path in calls.source_files():
        named = calls.services_named(ast.parse(path.read_text(encoding="utf-8")))
        unknown = named - set(calls.SERVICES)
        assert not unknown, f"{path.name} has a client for {', '.join(unknown)}: add it to tests.infra.calls.SERVICES"


def test_methods_in_not_requests_are_still_called() -> None:
    assert set(NOT_REQUESTS) <= set(calls.discover()), "remove the name from NOT_REQUESTS"


def test_declared_requests_exist_and_have_reasons() -> None:
    session = botocore.session.get_session()
    for principal, actions in ACTIONS.items():
        for action, entry in actions.items():
            assert entry["why"], f"{principal}: {action}"
            for call in entry["calls"]:
                service, _, name = call.partition(".")
                assert name in session.get_service_model(service).operation_names, f"{principal}: {action}: {call}"


def test_a_request_needs_the_action_of_its_name_except_where_aws_documents_another() -> None:
    """The exceptions are from AWS's Service Authorization Reference."""
    exceptions = {
        "s3.HeadBucket": {"s3:ListBucket"},
        "s3.HeadObject": {"s3:GetObject"},
        "s3.ListObjectsV2": {"s3:ListBucket"},
        "s3.ListMultipartUploads": {"s3:ListBucketMultipartUploads"},
        "s3.GetBucketReplication": {"s3:GetReplicationConfiguration"},
        "s3.CreateMultipartUpload": {"s3:PutObject"},
        "s3.UploadPart": {"s3:PutObject"},
        "s3.CompleteMultipartUpload": {"s3:PutObject"},
        "s3.DeleteObjects": {"s3:DeleteObjectVersion"},  # only with the id of each version
        "s3.ListObjectVersions": {"s3:ListBucketVersions"},
        "s3.CopyObject": {"s3:GetObject", "s3:PutObject"},
    }
    prefixes = {"emr": "elasticmapreduce"}
    for actions in ACTIONS.values():
        for request in {call for entry in actions.values() for call in entry["calls"]}:
            service, _, name = request.partition(".")
            needed = exceptions.get(request, {f"{prefixes.get(service, service)}:{name}"})
            assert needed <= {action for action, entry in actions.items() if request in entry["calls"]}, request


def test_an_undeclared_request_would_be_found() -> None:
    """The search finds a call, a name for a paginator, a name for getattr, and the calls of Airflow's provider."""
    source = """
from airflow.providers.amazon.aws.hooks.emr import EmrHook
from airflow.providers.amazon.aws.operators.emr import EmrCreateJobFlowOperator
hook.conn.delete_security_configuration(Name="x")
client.get_paginator("list_security_configurations")
repeat(client, "put_auto_termination_policy")
boto3.client("sqs")
hook.get_cluster_id_by_name("x", [])
class Create(EmrCreateJobFlowOperator):
    def execute(self, context): ...
"""
    tree = ast.parse(source)
    assert calls.named_operations(tree) == {
        "delete_security_configuration",
        "list_security_configurations",
        "put_auto_termination_policy",
    }
    assert calls.services_named(tree) == {"sqs"}
    assert calls.provider_calls(tree) == {"list_clusters", "terminate_job_flows"}, "by the hook, and on_kill"


# ------------------------------------------------------------------------------------------------- recorded requests


OPERATIONS = {
    ("HEAD", ""): "HeadBucket",
    ("GET", "uploads"): "ListMultipartUploads",
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "versions"): "ListObjectVersions",
    ("POST", "delete"): "DeleteObjects",
    ("HEAD", "key"): "HeadObject",
    ("GET", "key"): "GetObject",
    ("PUT", "key"): "PutObject",
    ("PUT", "key copy"): "CopyObject",
    ("DELETE", "key"): "DeleteObject",
    ("POST", "key uploads"): "CreateMultipartUpload",
    ("PUT", "key partNumber"): "UploadPart",
    ("POST", "key uploadId"): "CompleteMultipartUpload",
    ("DELETE", "key uploadId"): "AbortMultipartUpload",
}
"""The operations by method, whether the request is for an object, and the parameter that decides (S3 API)."""

SOURCES: list[str] = []
"""The ARNs of the objects that were copied: a copy needs s3:GetObject on these, and s3:PutObject on their copies."""

DECISIVE = ("uploads", "list-type", "versions", "delete", "partNumber", "uploadId")


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every request that S3 receives, with the ARN of its bucket or object; obstore does not use botocore."""
    from moto.s3.responses import S3Response

    recorded: list[tuple[str, str]] = []
    copied = SOURCES
    copied.clear()
    original = S3Response._authenticate_and_authorize_s3_action

    def record(self: Any, *arguments: Any, **named: Any) -> Any:
        name = named.get("bucket_name") or (arguments[0] if arguments else None) or self.bucket_name
        key = named.get("key_name") or (arguments[1] if len(arguments) > 1 else None) or ""
        decisive = next((parameter for parameter in DECISIVE if parameter in self.querystring), "")
        source = unquote(self.headers.get("x-amz-copy-source", "")).lstrip("/")
        asked = (self.method, f"{'key' if key else ''} {'copy' if source else decisive}".strip())
        operation = OPERATIONS.get(asked, f"unknown request {asked}")
        keys = [f"{name}/{key}" if key else name]
        if operation == "DeleteObjects":
            keys = [f"{name}/{deleted}" for deleted in re.findall("<Key>(.*?)</Key>", self.body.decode())]
        recorded.extend((f"s3.{operation}", f"arn:aws:s3:::{each}") for each in keys)
        if source:
            copied.append(f"arn:aws:s3:::{source}")
        return original(self, *arguments, **named)

    monkeypatch.setattr(S3Response, "_authenticate_and_authorize_s3_action", record)
    return recorded


def check_requests(principal: str, recorded: list[tuple[str, str]], name: str) -> None:
    """Check that a principal may make the recorded requests on the bucket and objects of the stack."""
    policy = (
        statements(load_erasure_template(), "ErasurePolicy")
        if principal == "erasure"
        else statements(load_template(), *PRINCIPALS[principal])
    )
    assert recorded
    for request, arn in dict.fromkeys(recorded):
        actions = [action for action, entry in ACTIONS[principal].items() if request in entry["calls"]]
        actions = [action for action in actions if action.startswith("s3:")]
        assert actions, f"{principal} sends {request} for {arn}: {WHERE}"
        resource = arn.replace(f"arn:aws:s3:::{name}", BUCKET)
        if request == "s3.CopyObject":
            actions = ["s3:PutObject"]
        for action in actions:
            assert decide(policy, action, resource, {}), f"{principal} may not {action} on {resource} ({request})"
    for arn in dict.fromkeys(SOURCES):
        resource = arn.replace(f"arn:aws:s3:::{name}", BUCKET)
        assert decide(policy, "s3:GetObject", resource, {}), f"{principal} may not copy {resource}"


SECOND = "20261123T120000Z-0123abcd"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two runs whose steps have completed: the second one replaces the segments of the first one."""
    write_run(tmp_path)
    write_run(tmp_path, 3, SECOND)
    return tmp_path


@pytest.fixture
def lake(bucket: Any, source: Path) -> Lake:
    """A lake with these runs."""
    for path in source.rglob("*"):
        if path.is_file():
            bucket.put_object(Key=path.relative_to(source).as_posix(), Body=path.read_bytes())
    bucket.put_object(Key="data/Kiwi/1.jpg", Body=b"x")
    bucket.put_object(Key="data/.not_loaded.json", Body=b"{}")
    bucket.put_object(Key="logs/j-1/steps/s-1/stderr.gz", Body=gzip.compress(b"last words"))
    return Lake(f"s3://{bucket.name}")


def test_airflow_may_do_what_its_tasks_do_on_s3(lake: Lake, source: Path, requests: list[tuple[str, str]]) -> None:
    settings = read_settings({"FRUITS_LAKE": lake.root})
    buckets = LakePath(lake.root, None).buckets
    requests.clear()  # the requests that created the lake
    check_access(lake, None)
    put_bundle(lake, build_bundle(), None)
    for slug in (SLUG, SECOND):
        run, folder = lake.run(slug), source / "runs" / slug
        abort_uploads(lake, lake.segments, settings, names=f"{slug}-")
        find_previous(lake, slug, "0" * 16, None)
        show_published(lake, None)
        pointer = read_pointer(lake, None)
        found = found_of(folder)
        features_of = json.loads((folder / "changes.json").read_text())["fingerprint"]
        with pytest.raises(JobError, match=r"\.not_loaded\.json"):  # it is read, and it is no such record
            changes.find(
                changes.Folder(lake.data("data"), "*.jpg"), f"{run.root}/x", features_of, None, buckets=buckets
            )
        changes.find(
            changes.Folder(lake.data("data/Kiwi"), "*.jpg"), f"{run.root}/x", features_of, None, buckets=buckets
        )
        verify_run(lake, slug, found, RunParams(max_reject_ratio=0.5), JOBS, None)
        assert read_segments(run, None)
        assert folder_bytes(LakePath(run.root, None)) > 0
        write_bytes(LakePath(run.report_html, None), b"x" * (6 * 1024 * 1024))  # a multipart upload
        write_bytes(LakePath(lake.report(slug), None), b"{}")
        commit(lake, manifest_of(folder), pointer.digest if pointer else None, "2026-11-22T12:00:00+00:00", None)
        show_published(lake, None)  # the second one replaces the published files
    deleted = collect_garbage(lake, 1, None, age=timedelta(days=-1))
    assert {name.partition("/")[0] for name in deleted} == {"manifests", "runs", "segments"}
    read_json(LakePath(lake.current, None), "")
    assert read_log_tail(step_log_uri(lake.logs, "j-1", "s-1", "stderr"), None) == "last words"
    abort_uploads(lake, f"{lake.root}/runs", settings)
    check_requests("airflow", requests, lake.root.removeprefix("s3://"))
    assert {f"arn:aws:s3:::{lake.root[5:]}/segments/{SLUG}-00112233-00000/features.parquet"} <= set(SOURCES)
    sent = {request for request, _ in requests}
    assert {
        "s3.CopyObject",
        "s3.CreateMultipartUpload",
        "s3.GetObject",
        "s3.DeleteObject",
        "s3.ListObjectsV2",
        "s3.ListMultipartUploads",
    } <= sent
    not_sent_here = {"s3.AbortMultipartUpload", "s3.HeadBucket", "s3.GetBucketLocation", "s3.GetBucketReplication"}
    unused = {call for call in declared("airflow") if call.startswith("s3.")} - sent - not_sent_here
    assert not unused, f"no task sends {', '.join(sorted(unused))}: remove it from infra/actions.yaml"


def test_publisher_may_do_what_publishing_does(lake: Lake, requests: list[tuple[str, str]]) -> None:
    requests.clear()
    put_bundle(lake, build_bundle(), None)
    name_published_model(lake, "0" * 64, None)
    target = LakePath(f"{lake.model('0' * 16)}/model.tflite", None)
    assert not target.exists()
    write_bytes(target, b"x" * (6 * 1024 * 1024))
    check_requests("publisher", requests, lake.root.removeprefix("s3://"))


def test_an_erasure_may_do_what_it_does_on_s3(lake: Lake, source: Path, requests: list[tuple[str, str]]) -> None:
    client = boto3.client("s3")
    client.put_bucket_versioning(Bucket=lake.root.removeprefix("s3://"), VersioningConfiguration={"Status": "Enabled"})
    commit(lake, manifest_of(source / "runs" / SLUG), None, "2026-11-22T12:00:00+00:00", None)
    show_published(lake, None)
    requests.clear()
    receipt = forget(lake, read_request(lake, ["data/Kiwi/0.jpg"], ["crème brûlée"]), 7, None)
    assert receipt["states"]["1"]["after"] is not None
    assert proof.main([f"{lake.root}/erasures/{receipt['erasure']}.json"]) == 0
    check_requests("erasure", requests, lake.root.removeprefix("s3://"))
    sent = {request for request, _ in requests}
    allowed = {each for one in statements(load_erasure_template(), "ErasurePolicy") for each in one["Action"]}
    assert allowed == set(ACTIONS["erasure"])
    assert {call for call in declared("erasure") if call.startswith("s3.")} - sent == {"s3.AbortMultipartUpload"}
    boto3.resource("s3").Bucket(lake.root.removeprefix("s3://")).object_versions.delete()


def test_nodes_may_do_what_jobs_do_on_s3(
    lake: Lake, requests: list[tuple[str, str]], s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests.clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server)
    run = lake.run("20261122T130000Z-0123abcd")
    read = reader(lake.data("data"))
    assert bytes(read(f"{lake.data('data').removeprefix('s3://')}/Kiwi/1.jpg", 1)) == b"x"
    storage.write_bytes(storage.join(run.root, "staging", "part-0.parquet"), b"x" * (6 * 1024 * 1024))
    storage.write_bytes(lake.features("x-00000"), b"x" * (6 * 1024 * 1024))
    assert storage.read_bytes(lake.features("x-00000"))
    storage.write_json(run.featurize_summary, {})
    assert storage.read_json(run.featurize_summary) == {}
    assert not storage.exists(run.live_segments)
    storage.delete(storage.join(run.root, "staging"))
    storage.delete(run.featurize_summary)
    with pytest.raises(RuntimeError, match="interrupted"):
        _fail_during_upload(storage.join(run.root, "x"))
    check_requests("nodes", requests, lake.root.removeprefix("s3://"))


def _fail_during_upload(uri: str) -> None:
    with storage.writing(uri) as stream:
        stream.write(b"x" * (6 * 1024 * 1024))
        raise RuntimeError("interrupted")
