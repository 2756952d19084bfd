"""Files are written whole or not at all; what may be gone already is deleted."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from spark_jobs.lake import storage
from tests.s3_store import Store, use_environment


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


@pytest.fixture(params=["folder", "bucket"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a file in a folder or on S3; temporary files go to a folder of the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    if request.param == "folder":
        return f"file://{tmp_path}/lake/part.parquet"
    store: Store = request.getfixturevalue("store")
    use_environment(monkeypatch, store.url)
    return f"s3://{request.getfixturevalue('lake_bucket')}/lake/part.parquet"


@pytest.mark.slow
def test_a_parquet_file_whose_writer_fails_is_not_there_and_the_old_one_is_kept(target: str, tmp_path: Path) -> None:
    """The end of pyarrow's writer makes what it has written a valid but short file."""
    rows = pa.table({"x": list(range(2_000_000))})  # more than S3's smallest part of 5 MiB

    def write(fail: bool) -> None:
        with storage.writing(target) as stream, pq.ParquetWriter(stream, rows.schema, compression="none") as writer:
            writer.write_table(rows)
            if fail:
                raise RuntimeError("interrupted")
            writer.write_table(rows)

    with pytest.raises(RuntimeError, match="interrupted"):
        write(fail=True)
    assert not storage.exists(target)
    write(fail=False)
    with pytest.raises(RuntimeError, match="interrupted"):
        write(fail=True)
    assert pq.read_metadata(io.BytesIO(storage.read_bytes(target))).num_rows == 4_000_000
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.slow
def test_a_late_attempt_that_fails_keeps_the_file_of_its_successor(target: str) -> None:
    def write_late() -> None:
        with storage.writing(target) as stream:
            stream.write(b"x" * 6 * 2**20)
            storage.write_bytes(target, b"of the successor")
            raise RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        write_late()
    assert storage.read_bytes(target) == b"of the successor"
