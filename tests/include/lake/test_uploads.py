"""The unfinished uploads of a killed run are aborted, and no others."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.s3 import S3Hook

from include.lake import uploads
from include.lake.layout import Lake
from include.lake.uploads import STALE, abort_uploads
from include.settings.deployment import Settings
from include.settings.parameters import MAX_STEP_MINUTES
from tests.s3_store import REGION, Store, connection

pytestmark = pytest.mark.slow


def settings(conn_id: str) -> Settings:
    return Settings(aws_conn_id=conn_id, region=REGION)


class Uploads:
    """The unfinished uploads of a bucket, and a lake on it."""

    def __init__(self, store: Store, bucket: str) -> None:
        self.store = store
        self.bucket = bucket
        self.lake = Lake(f"s3://{bucket}")

    def begin(self, *keys: str) -> None:
        for key in keys:
            upload = self.store.s3.create_multipart_upload(Bucket=self.bucket, Key=key)["UploadId"]
            self.store.s3.upload_part(Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"part")

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.store.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return found

    def keys(self) -> list[str]:
        return sorted(upload["Key"] for upload in self.listed())


@pytest.fixture
def begun(store: Store, lake_bucket: str) -> Uploads:
    return Uploads(store, lake_bucket)


@pytest.fixture
def worker(store: Store, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings(store.connection(monkeypatch, "worker"))


def test_uploads_under_the_folder_are_aborted_and_no_others(
    begun: Uploads, worker: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    others = ["runs/ab/features/part-0", "runs/a", "runs/a.old", "other/runs/a/x", "top"]
    begun.begin(*others)
    begun.store.put(begun.bucket, "runs/a/features/done", b"whole")
    folder = f"{begun.lake.root}/runs/a"
    with caplog.at_level(logging.INFO, "include.lake.uploads"):
        for uri in (folder, f"{folder}/"):
            begun.begin("runs/a/features/part-0", "runs/a/features/part-1 é%+#🥝", "runs/a/report.html")
            begun.begin("runs/a/report.html")  # a second upload with the same key
            assert abort_uploads(begun.lake, uri, worker) == 4
            assert begun.keys() == sorted(others)
            assert abort_uploads(begun.lake, uri, worker) == 0
    assert begun.store.read(begun.bucket, "runs/a/features/done") == b"whole"
    messages = [record.getMessage() for record in caplog.records if record.name == "include.lake.uploads"]
    assert messages == [
        f"Aborted 4 unfinished uploads of killed processes under {uri}" for uri in (folder, f"{folder}/")
    ]
    assert abort_uploads(begun.lake, begun.lake.root, worker) == len(others)
    assert begun.keys() == []


def test_uploads_of_a_runs_segments_are_aborted_and_not_those_of_other_runs(begun: Uploads, worker: Settings) -> None:
    begun.begin("segments/a-1-00000/features.parquet", "segments/a-2-00000/moments.npz", "segments/ab-1-00000/x")
    assert abort_uploads(begun.lake, begun.lake.segments, worker, names="a-") == 2
    assert begun.keys() == ["segments/ab-1-00000/x"]


def test_only_old_uploads_are_aborted_if_an_age_is_given(
    begun: Uploads, worker: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun.begin("runs/a/old")
    (old,) = begun.listed()
    while len({upload["Initiated"] for upload in begun.listed()}) == 1:  # the store reports whole seconds
        begun.begin("runs/a/new")
    new = max(upload["Initiated"] for upload in begun.listed())
    younger = sum(upload["Initiated"] == new for upload in begun.listed())
    before = len(begun.listed())
    assert abort_uploads(begun.lake, begun.lake.root, worker, older_than=STALE) == 0
    assert len(begun.listed()) == before

    class Clock(datetime):
        """A day after the first one."""

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            assert tz is UTC
            return old["Initiated"] + STALE + timedelta(milliseconds=500)

    monkeypatch.setattr(uploads, "datetime", Clock)
    assert abort_uploads(begun.lake, begun.lake.root, worker, older_than=STALE) == before - younger
    assert begun.keys() == ["runs/a/new"] * younger


def test_an_upload_of_the_longest_step_is_not_old() -> None:
    """A new run aborts the old uploads of all runs, and another run may be in progress."""
    assert timedelta(minutes=MAX_STEP_MINUTES) < STALE


def test_all_pages_are_read(begun: Uploads, worker: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Any] = []

    def ask_for_three(params: dict[str, Any], **_: Any) -> None:
        params["MaxUploads"] = 3
        requests.append(params.get("KeyMarker"))

    real = S3Hook.conn.func

    def short_paged(hook: S3Hook) -> Any:
        client = real(hook)
        client.meta.events.register("before-parameter-build.s3.ListMultipartUploads", ask_for_three)
        return client

    begun.begin(*(f"runs/a/part-{number}" for number in range(8)), "runs/b")
    monkeypatch.setattr(S3Hook, "conn", property(short_paged))
    assert abort_uploads(begun.lake, f"{begun.lake.root}/runs/a", worker) == 8
    assert len(requests) == 3
    assert begun.keys() == ["runs/b"]


def test_lake_in_a_folder_has_no_uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(hook: S3Hook) -> None:
        pytest.fail("S3 was called")

    monkeypatch.setattr(S3Hook, "conn", property(fail))
    assert abort_uploads(Lake(f"file://{tmp_path}"), f"file://{tmp_path}/runs/a", settings("aws_default")) == 0


def test_refused_abort_is_a_warning(
    begun: Uploads, worker: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    begun.begin("runs/a/x")
    folder = f"{begun.lake.root}/runs/a"
    reader = settings(begun.store.connection(monkeypatch, "reader"))
    with caplog.at_level(logging.INFO, "include.lake.uploads"):
        assert abort_uploads(begun.lake, folder, reader) == 0
    (record,) = [record for record in caplog.records if record.name == "include.lake.uploads"]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"Unfinished uploads under {folder} could not be aborted: ")
    assert "AccessDenied" in record.getMessage()
    assert begun.keys() == ["runs/a/x"]


def test_wrong_keys_and_a_missing_bucket_are_warnings(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, bucket in (("stranger", "friuts"), ("local", "friuts")):
        conn_id = connection(monkeypatch, store.url, name)
        assert abort_uploads(Lake(f"s3://{bucket}"), f"s3://{bucket}/runs/a", settings(conn_id)) == 0
    messages = [record.getMessage() for record in caplog.records if record.name == "include.lake.uploads"]
    assert ["InvalidAccessKeyId" in messages[0], "NoSuchBucket" in messages[1]] == [True, True]
