"""A deletion that the store refuses is an error, and a publication stops there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.lake.objects import LakePath, delete_file
from include.lake.publication import show_published
from tests.include.lake.places import Bucket, files, publish, rows, upload
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
def test_publication_fails_if_old_files_cannot_be_deleted_and_its_repetition_completes_it(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Rows of two states in results/ without an error would be worse than a failed run."""
    place = Bucket(store, lake_bucket, store.connection(monkeypatch, "worker"))
    runs = [write_run(tmp_path, images, slug) for slug, images in ((FIRST, 5), (SECOND, 8))]
    upload(place, tmp_path)
    publish(place, runs[0])
    old = files(place, "results/")
    store.deny_delete(lake_bucket)
    with pytest.raises(PermissionError, match="Access Denied"):
        publish(place, runs[1])
    assert files(place, "results/").items() > old.items(), "no row is missing"
    assert FIRST in json.loads(place.read("results.json"))["manifest"]
    with pytest.raises(PermissionError, match="Access Denied"):
        show_published(place.lake, place.conn)
    store.allow(lake_bucket, lambda: store.delete_nothing(lake_bucket))
    show_published(place.lake, place.conn)
    assert not set(files(place, "results/")) & set(old)
    assert len(rows(place)) == 8
