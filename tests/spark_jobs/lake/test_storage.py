"""Deleting what may be gone already."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow import fs

from spark_jobs.lake import storage


@pytest.mark.parametrize("kind", ["nothing", "file", "folder"])
def test_delete_is_idempotent(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("x")
    elif kind == "folder":
        (target / "deep").mkdir(parents=True)
        (target / "deep" / "file").write_text("x")
    storage.delete(target.as_uri())
    storage.delete(target.as_uri())
    assert not target.exists()
    assert tmp_path.exists()


def test_a_folder_deleted_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 may list a folder for a moment after its last object was deleted."""

    class Store:
        def get_file_info(self, path: str) -> fs.FileInfo:
            return fs.FileInfo(path, fs.FileType.Directory)

        def delete_dir(self, path: str) -> None:
            raise FileNotFoundError(path)

    monkeypatch.setattr(storage, "locate", lambda uri: (Store(), uri))
    storage.delete("s3://bucket/runs/a/staging")
