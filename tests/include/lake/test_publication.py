"""The published results are always the rows of one complete run, whatever happens while another is published."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from include.lake import objects, publication
from include.lake.layout import Lake
from include.lake.publication import find_previous, publish_run
from spark_jobs import args
from tests.include.run_folders import write_json, write_run
from tests.include.run_records import MODEL_DIGEST

FIRST, SECOND = "20261121T120000Z-aaaaaaaa", "20261122T120000Z-bbbbbbbb"


class Crash(BaseException):
    """Stands for the end of the process: nothing catches it."""


def publish(root: Path, slug: str) -> dict[str, Any]:
    return publish_run(Lake(f"file://{root}"), slug, {"images": 5}, None)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_run(tmp_path, images=5, slug=FIRST)
    write_run(tmp_path, images=8, slug=SECOND)
    return tmp_path


def published_files(root: Path) -> dict[str, bytes]:
    """Every published file, hidden ones too."""
    files = [path for name in ("results", "results_csv") for path in (root / name).rglob("*") if path.is_file()]
    files += [root / "current.json"] if (root / "current.json").exists() else []
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_results_are_the_notebooks_columns_with_one_row_per_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = publish(root, SECOND)
    frame = pd.read_parquet(root / "results")
    assert list(frame.columns) == ["path", "label", "features"]
    assert all(vector.dtype == np.float32 and vector.shape == (1280,) for vector in frame["features"])
    source = pd.read_parquet(root / "runs" / SECOND / args.FEATURES_FOLDER)[list(frame.columns)]
    pd.testing.assert_frame_equal(frame, source)
    csv = (root / "results_csv" / "pca_features.csv").read_bytes()
    assert csv == (root / "runs" / SECOND / args.CSV_FILE).read_bytes()
    assert json.loads((root / "current.json").read_text()) == record
    assert (record["run"], record["images"]) == (SECOND, 5)
    assert sorted(record["results"]) == sorted(path.name for path in (root / "results").iterdir())
    for path in (root / "results").iterdir():  # Spark's schema in the metadata would show columns that are not there
        assert not {b"org.apache.spark.sql.parquet.row.metadata", b"pandas"} & set(pq.read_schema(path).metadata or {})
    before = published_files(root)
    publish(root, SECOND)
    assert published_files(root) == before, "publishing again changes nothing"
    monkeypatch.setattr(publication, "ROWS_PER_GROUP", 2)
    publish(root, SECOND)
    pd.testing.assert_frame_equal(pd.read_parquet(root / "results"), source)


def test_a_run_replaces_the_published_one_and_everything_left_over(root: Path) -> None:
    publish(root, FIRST)
    for name in (f".part-{FIRST}-00000.parquet.0123", "part-old.parquet", "_SUCCESS", "notes.txt"):
        (root / "results" / name).write_bytes(b"leftover")
    publish(root, SECOND)
    assert all(path.name.startswith(f"part-{SECOND}-") for path in (root / "results").iterdir())
    assert len(pd.read_parquet(root / "results")) == 8
    assert json.loads((root / "current.json").read_text())["run"] == SECOND
    publish(root, FIRST)
    assert len(pd.read_parquet(root / "results")) == 5, "an older run can be published again"


@contextmanager
def crash_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Crash before the step with this number; a step opens, finishes or deletes a file. Yield the started steps."""
    steps: list[str] = []

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) > number:
            raise Crash(name)

    atomic_write = publication.atomic_write

    @contextmanager
    def counted_write(path: Any) -> Iterator[Any]:
        step(f"open {path.name}")
        with atomic_write(path) as stream:
            yield stream
            step(f"finish {path.name}")

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any) -> Any:
            step(f"{name} {path.name}")
            return original(path, *arguments)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(publication, "atomic_write", counted_write)
        patched.setattr(publication, "write_json", counted("write", objects.write_json))
        patched.setattr(publication, "delete_file", counted("delete", objects.delete_file))
        yield steps


def test_a_crash_at_any_step_loses_no_row_and_a_repetition_completes_the_publication(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(root, SECOND)
    after = published_files(root)
    for name in after:
        (root / name).unlink()
    publish(root, FIRST)
    before = published_files(root)
    old = set(pd.read_parquet(root / "results")["path"])
    csv = "results_csv/pca_features.csv"
    for crashes in itertools.count():
        with crash_at(crashes, monkeypatch) as steps:
            try:
                publish(root, SECOND)
            except Crash:
                pass
            else:
                break
        found = published_files(root)
        is_old, is_new = (
            all(found.get(name) == data for name, data in files.items() if name.startswith("results/"))
            for files in (before, after)
        )
        assert is_old or is_new, f"killed before {steps[-1]!r}: rows are lost"
        assert set(pd.read_parquet(root / "results")["path"]) >= old
        assert found[csv] in (before[csv], after[csv])
        if not is_new:
            assert json.loads(found["current.json"])["run"] == FIRST, "it must not name a run that is not published"
        publish(root, SECOND)
        assert published_files(root) == after, f"killed before {steps[-1]!r}: a repetition must complete it"
        publish(root, FIRST)
        assert published_files(root) == before
    assert crashes >= 8, "two parts and the CSV are opened and finished, two old parts deleted, the record written"
    assert steps[-1] == "write current.json", "the record changes last"


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


@pytest.mark.slow
def test_publication_on_s3_writes_the_same_files(root: Path, bucket: Any) -> None:
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


@pytest.mark.slow
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


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The folder of a published run, with the files that the next run reads."""
    run = tmp_path / "runs" / FIRST
    write_json(run / args.FEATURIZE_SUMMARY_FILE, {"model": {"digest": MODEL_DIGEST}})
    (run / args.PCA_MODEL_FILE).parent.mkdir()
    (run / args.PCA_MODEL_FILE).touch()
    write_json(tmp_path / "current.json", {"run": FIRST})
    return run


def previous(root: Path, slug: str = SECOND) -> Any:
    return find_previous(Lake(f"file://{root}"), slug, MODEL_DIGEST, None)


def test_a_run_is_compared_with_the_published_one_unless_it_is_itself_or_there_is_none(
    tmp_path: Path, published: Path
) -> None:
    model = f"file://{published / args.PCA_MODEL_FILE}"
    assert previous(tmp_path) == {"run": FIRST, "pca_model": model, "note": None}
    note = "this run itself was the published one"
    assert previous(tmp_path, FIRST) == {"run": None, "pca_model": None, "note": note}
    note = "no run had been published before"
    assert previous(tmp_path / "new") == {"run": None, "pca_model": None, "note": note}


def test_a_damaged_record_of_the_published_run_is_reported_and_stops_no_run(
    tmp_path: Path, published: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = ['{"run": null}', '{"run": "../../etc"}', f'{{"run": "{FIRST}\\n"}}', '{"run": ["x"]}']
    for content in ["", "{", "[]", "{}", *damaged]:
        caplog.clear()
        (tmp_path / "current.json").write_text(content)
        found = previous(tmp_path)
        assert (found["run"], found["pca_model"]) == (None, None)
        assert found["note"].endswith("current.json did not name a run")
        [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert f"file://{tmp_path}/current.json does not name a run" in warning
        assert "until a run publishes" in warning


def test_a_published_run_that_cannot_be_compared_stops_no_run_and_the_note_says_why(
    tmp_path: Path, published: Path
) -> None:
    summary, model = published / args.FEATURIZE_SUMMARY_FILE, published / args.PCA_MODEL_FILE
    for record in ({}, {"model": "x"}, {"model": {}}, []):
        write_json(summary, record)
        assert "does not name its model" in previous(tmp_path)["note"]
    write_json(summary, {"model": {"digest": "cd" * 32}})  # it has 1280 features, too, with another meaning
    note = f"its features are from the model {'cd' * 8}, this run's from {'ab' * 8}"
    assert previous(tmp_path) == {"run": FIRST, "pca_model": None, "note": note}
    write_json(summary, {"model": {"digest": MODEL_DIGEST}})
    for path in (model, summary):
        path.unlink()
        found = previous(tmp_path)
        assert (found["run"], found["pca_model"]) == (FIRST, None)
        assert path.name in found["note"]
