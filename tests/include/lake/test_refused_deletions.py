"""A deletion that the store refuses is an error, and a publication stops there."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from include.lake.layout import Lake
from include.lake.objects import LakePath, delete_file
from include.lake.publication import publish_run
from tests.include.run_folders import write_run
from tests.s3_store import Store

FIRST, SECOND = "20261121T120000Z-aaaaaaaa", "20261122T120000Z-bbbbbbbb"


def test_file_is_deleted_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    delete_file(LakePath(f"file://{tmp_path}/file"))
    assert not (tmp_path / "file").exists()
    with pytest.raises(FileNotFoundError):
        delete_file(LakePath(f"file://{tmp_path}/file"))


@pytest.mark.slow
def test_object_is_deleted_and_a_refusal_is_an_error(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn_id = store.connection(monkeypatch, "worker")
    for key in ("a é%20+#b", "object"):
        store.put(lake_bucket, key)
    delete_file(LakePath(f"s3://{lake_bucket}/a é%20+#b", conn_id))
    assert store.keys(lake_bucket) == {"object"}
    store.deny_delete(lake_bucket)
    with pytest.raises(PermissionError, match="Access Denied"):
        delete_file(LakePath(f"s3://{lake_bucket}/object", conn_id))
    assert store.keys(lake_bucket) == {"object"}


@pytest.mark.slow
def test_publication_fails_if_old_files_cannot_be_deleted_and_current_json_still_names_the_old_run(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rows of two runs in results/ without an error would be worse than a failed run."""
    for slug, images in ((FIRST, 5), (SECOND, 8)):
        for path in write_run(tmp_path, images=images, slug=slug).rglob("*"):
            if path.is_file():
                store.put(lake_bucket, path.relative_to(tmp_path).as_posix(), path.read_bytes())
    lake, conn_id = Lake(f"s3://{lake_bucket}"), store.connection(monkeypatch, "worker")
    publish_run(lake, FIRST, {}, conn_id)
    old = {key: store.read(lake_bucket, key) for key in store.keys(lake_bucket, "results/")}
    store.deny_delete(lake_bucket)
    with pytest.raises(PermissionError, match="Access Denied"):
        publish_run(lake, SECOND, {}, conn_id)
    assert json.loads(store.read(lake_bucket, "current.json"))["run"] == FIRST
    assert {key: store.read(lake_bucket, key) for key in old} == old
    store.allow(lake_bucket, lambda: store.delete_nothing(lake_bucket))
    record = publish_run(lake, SECOND, {}, conn_id)
    assert store.keys(lake_bucket, "results/") == {f"results/{name}" for name in record["results"]}
    rows = [len(pd.read_parquet(io.BytesIO(store.read(lake_bucket, f"results/{name}")))) for name in record["results"]]
    assert sum(rows) == 8
