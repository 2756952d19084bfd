"""What people read: always the rows of one whole run, whatever happens while another is published."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from include.lake import publication
from include.lake.layout import Lake
from include.lake.publication import publish_run
from spark_jobs import args
from tests.include.run_folders import write_run

FIRST, SECOND = "20261121T120000Z-aaaaaaaa", "20261122T120000Z-bbbbbbbb"


class Crash(BaseException):
    """The process is gone: nothing handles it."""


def publish(root: Path, slug: str) -> dict[str, Any]:
    return publish_run(Lake(f"file://{root}"), slug, {"images": 5}, None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_run(tmp_path, images=5, slug=FIRST)
    write_run(tmp_path, images=8, slug=SECOND)
    return tmp_path


def published_files(root: Path) -> dict[str, bytes]:
    """Every file that people read, hidden ones too."""
    files = [path for name in ("results", "results_csv") for path in (root / name).rglob("*") if path.is_file()]
    files += [root / "current.json"] if (root / "current.json").exists() else []
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_results_are_the_notebooks_columns_one_row_an_image(root: Path) -> None:
    publish(root, SECOND)
    frame = pd.read_parquet(root / "results")
    assert list(frame.columns) == ["path", "label", "features"]
    assert len(frame) == 8
    assert all(vector.dtype == np.float32 and vector.shape == (1280,) for vector in frame["features"])
    source = pd.read_parquet(root / "runs" / SECOND / args.FEATURES_FOLDER)
    assert list(frame["path"]) == list(source["path"])
    assert list(frame["label"]) == list(source["label"])
    assert np.array_equal(np.stack(frame["features"]), np.stack(source["features"]))
    assert (root / "results_csv" / "pca_features.csv").read_bytes() == (
        root / "runs" / SECOND / args.CSV_FILE
    ).read_bytes()


def test_results_do_not_tell_who_wrote_them(root: Path) -> None:
    """Spark's own schema in the metadata would bring back the columns that are not published."""
    publish(root, SECOND)
    for path in (root / "results").iterdir():
        assert not {b"org.apache.spark.sql.parquet.row.metadata", b"pandas"} & set(pq.read_schema(path).metadata or {})


def test_publishing_twice_changes_nothing(root: Path) -> None:
    publish(root, SECOND)
    before = published_files(root)
    publish(root, SECOND)
    assert published_files(root) == before


def test_another_run_replaces_the_first_altogether(root: Path) -> None:
    publish(root, FIRST)
    publish(root, SECOND)
    assert len(pd.read_parquet(root / "results")) == 8
    assert all(SECOND in path.name for path in (root / "results").iterdir())
    assert json.loads((root / "current.json").read_text())["run"] == SECOND


def test_an_older_run_can_be_published_again(root: Path) -> None:
    publish(root, SECOND)
    publish(root, FIRST)
    assert len(pd.read_parquet(root / "results")) == 5


def test_current_names_the_run_its_files_and_what_was_checked(root: Path) -> None:
    record = publish(root, SECOND)
    assert json.loads((root / "current.json").read_text()) == record
    assert record["run"] == SECOND
    assert record["images"] == 5
    assert sorted(record["results"]) == sorted(path.name for path in (root / "results").iterdir())


def test_leftovers_of_others_go(root: Path) -> None:
    publish(root, FIRST)
    for name in (f".part-{FIRST}-00000.parquet.0123", "part-old.parquet", "_SUCCESS", "notes.txt"):
        (root / "results" / name).write_bytes(b"leftover")
    publish(root, SECOND)
    assert all(path.name.startswith(f"part-{SECOND}-") for path in (root / "results").iterdir())
    assert len(pd.read_parquet(root / "results")) == 8


def test_result_of_many_row_groups_is_copied_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "ROWS_PER_GROUP", 2)
    publish(root, SECOND)
    assert len(pd.read_parquet(root / "results")) == 8


@contextmanager
def crash_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Kill the process before its step of this number; the steps are: opening a file for atomic_write, finishing it,
    deleting a file. Yields the steps that were begun."""
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) > number:
            raise Crash(name)

    atomic_write = publication.atomic_write

    @contextmanager
    def counted_writing(path: Any) -> Iterator[Any]:
        step(f"open {path.name}")
        with atomic_write(path) as stream:
            yield stream
            step(f"finish {path.name}")

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any) -> Any:
            step(f"{name} {path.name}")
            return original(path, *arguments)

        return call

    from airflow.sdk import ObjectStoragePath

    from include.lake import objects

    unlink = ObjectStoragePath.unlink

    def counted_unlink(path: Any, missing_ok: bool = False) -> None:
        if not missing_ok:  # with it, it is the clean-up of a temporary file
            step(f"delete {path.name}")
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patched:
        patched.setattr(publication, "atomic_write", counted_writing)
        patched.setattr(publication, "write_json", counted("put", objects.write_json))
        patched.setattr(ObjectStoragePath, "unlink", counted_unlink)
        yield steps


def holds_results_of(root: Path, published: dict[str, bytes]) -> bool:
    found = published_files(root)
    return all(found.get(name) == data for name, data in published.items() if name.startswith("results/"))


def test_crash_at_any_step_leaves_every_row_readable_and_a_repetition_heals(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(root, SECOND)
    after = published_files(root)
    for path in [*(root / "results").iterdir(), root / "current.json", root / "results_csv" / "pca_features.csv"]:
        path.unlink()
    publish(root, FIRST)
    before = published_files(root)
    old = set(pd.read_parquet(root / "results")["path"])
    crashes = 0
    while True:
        with crash_at(crashes, monkeypatch) as steps:
            try:
                publish(root, SECOND)
            except Crash:
                finished = False
            else:
                finished = True
        if finished:
            break
        frame = pd.read_parquet(root / "results")
        complete_old = all(
            published_files(root).get(name) == data for name, data in before.items() if name.startswith("results/")
        )
        complete_new = all(
            published_files(root).get(name) == data for name, data in after.items() if name.startswith("results/")
        )
        assert complete_old or complete_new, f"killed before {steps[-1]!r}: rows are lost"
        assert set(frame["path"]) >= old
        csv = published_files(root)["results_csv/pca_features.csv"]
        assert csv in (before["results_csv/pca_features.csv"], after["results_csv/pca_features.csv"])
        if not complete_new:
            assert json.loads((root / "current.json").read_text())["run"] == FIRST, "it names what is not there yet"
        publish(root, SECOND)
        assert published_files(root) == after, f"killed before {steps[-1]!r}: a repetition does not heal"
        publish(root, FIRST)
        assert published_files(root) == before
        crashes += 1
    assert crashes >= 8, "two parts and the CSV opened and finished, two old parts deleted, and the record put"
    assert steps[-1] == "put current.json", "the record is the last thing that changes"


def test_failure_before_the_first_new_file_touches_nothing(root: Path) -> None:
    publish(root, FIRST)
    before = published_files(root)
    sorted((root / "runs" / SECOND / args.FEATURES_FOLDER).glob("*.parquet"))[0].write_bytes(b"damaged")
    with pytest.raises(Exception, match="Parquet"):
        publish(root, SECOND)
    assert published_files(root) == before


def upload(root: Path, bucket: Any) -> None:
    for path in (root / "runs").rglob("*"):
        if path.is_file():
            bucket.put_object(Key=path.relative_to(root).as_posix(), Body=path.read_bytes())


def test_publishing_on_s3_is_the_same(root: Path, bucket: Any) -> None:
    upload(root, bucket)
    lake = Lake(f"s3://{bucket.name}")
    for slug in (FIRST, SECOND, SECOND):
        record = publish_run(lake, slug, {}, None)
    keys = sorted(item.key for item in bucket.objects.filter(Prefix="results/"))
    assert keys == sorted(f"results/{name}" for name in record["results"])
    assert all(SECOND in key for key in keys)
    publish(root, SECOND)
    for key, data in published_files(root).items():
        if key != "current.json":
            assert bucket.Object(key).get()["Body"].read() == data
    assert json.loads(bucket.Object("current.json").get()["Body"].read())["run"] == SECOND


def test_failure_on_s3_leaves_no_part_of_a_file(root: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(root, bucket)
    lake = Lake(f"s3://{bucket.name}")
    publish_run(lake, FIRST, {}, None)
    before = {item.key: item.e_tag for item in bucket.objects.filter(Prefix="results")}
    copy = publication._copy_columns

    def fail_at_the_end(source: Any, target: Any) -> None:
        copy(source, target)
        raise OSError("connection lost")

    monkeypatch.setattr(publication, "_copy_columns", fail_at_the_end)
    with pytest.raises(OSError, match="connection lost"):
        publish_run(lake, SECOND, {}, None)
    assert {item.key: item.e_tag for item in bucket.objects.filter(Prefix="results")} == before
