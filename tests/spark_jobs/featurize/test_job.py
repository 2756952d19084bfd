"""The featurize job: every listed image comes out once, as features or as a reject, the same way each time."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageOps
from pyspark.sql import SparkSession

from spark_jobs import fingerprint
from spark_jobs.args import FEATURE_DIMENSIONS, NOT_LOADED_FILE, FeaturizeArgs
from spark_jobs.errors import JobError
from spark_jobs.featurize import completeness, job, segments, staging
from spark_jobs.featurize.extraction import Engine
from spark_jobs.images import changes, decoding, rejects
from spark_jobs.lake import schemas
from spark_jobs.left_out import LeftOutCounter
from spark_jobs.model import mobilenet
from spark_jobs.records import Changes, FeaturizeSummary
from spark_jobs.runtime import progress
from tests.spark_jobs import deadly_decoder, mutations

NAMED = Path(__file__).resolve().parents[2] / "data" / "images"

pytestmark = [
    pytest.mark.slow,
    # pyspark leaves the socket that an RDD's result came through to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture
def arguments(few_photos: Path, tmp_path: Path, model_folder: Path) -> FeaturizeArgs:
    return FeaturizeArgs(
        images=f"file://{few_photos}", run=f"file://{tmp_path}/runs/a run", model=f"file://{model_folder}"
    )


def local(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def segment_files(run: str, kind: str) -> list[Path]:
    """The files of the live segments with rows of a kind, in order."""
    live = json.loads((local(run) / "segments.json").read_text())
    return [local(live["folder"]) / each["id"] / f"{kind}.parquet" for each in live["segments"] if each[kind]]


def table(run: str, kind: str) -> pa.Table:
    files = segment_files(run, "features") if kind == "features" else sorted((local(run) / kind).glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files])


def rows(run: str, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = table(run, kind).to_pylist()
    return found


def constant_model(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
    """A model as fast as can be, where a test is not about the model."""
    return lambda pixels: np.full(FEATURE_DIMENSIONS, pixels.mean(), np.float32)


def corner_model(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
    return lambda pixels: np.full(FEATURE_DIMENSIONS, pixels[:10, :10].mean(), np.float32)


CONSTANT = Engine(constant_model)


def add_named(arguments: FeaturizeArgs, *patterns: str, label: str = "Named") -> int:
    folder = local(arguments.images) / label
    folder.mkdir(exist_ok=True)
    files = [file for pattern in patterns for file in NAMED.glob(pattern)]
    for file in files:
        shutil.copyfile(file, folder / file.name)
    return len(files)


def test_features_are_the_models_in_the_order_of_the_listing(spark: SparkSession, arguments: FeaturizeArgs) -> None:
    summary = job.run(spark.sparkContext, arguments)
    files = sorted(local(arguments.images).glob("*/*.jpg"))
    listed = pq.read_table(local(arguments.run) / "listing.parquet").to_pylist()
    model = mobilenet.read(arguments.model)
    extract = mobilenet.Extractor(model.flatbuffer)
    found = rows(arguments.run, "features")
    assert [row["path"] for row in found] == [f"file://{file}" for file in files]
    assert [row["label"] for row in found] == [file.parent.name for file in files]
    for row, image, file in zip(found, listed, files, strict=True):
        assert row.keys() == {"path", "label", "features"}, "as in the notebook"
        assert (image["path"], image["label"]) == (row["path"], row["label"])
        pixels = decoding.decode(file.read_bytes(), max_pixels=10**8)
        assert not isinstance(pixels, rejects.Reject)
        np.testing.assert_array_equal(np.array(row["features"], np.float32), extract(pixels))
        status = file.stat()
        assert image["size"] == status.st_size
        seconds, rest = divmod(status.st_mtime_ns, 10**9)
        assert image["modification_time"] == datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    assert summary["listed"] == summary["features"] == 9
    assert summary["rejects"] == 0


def test_datasets_have_exactly_the_schemas(spark: SparkSession, arguments: FeaturizeArgs) -> None:
    job.run(spark.sparkContext, arguments, engine=CONSTANT)
    assert table(arguments.run, "features").schema.equals(schemas.FEATURES)
    assert table(arguments.run, "rejects").schema.equals(schemas.REJECTS)
    assert table(arguments.run, "rejects").num_rows == 0
    for name in ("listing", "work"):
        assert pq.read_schema(local(arguments.run) / f"{name}.parquet").equals(schemas.LISTING)
    assert pq.read_schema(local(arguments.run) / "gone.parquet").equals(schemas.GONE)


def test_spark_reads_what_was_written(spark: SparkSession, arguments: FeaturizeArgs) -> None:
    job.run(spark.sparkContext, arguments, engine=CONSTANT)
    files = [f"file://{file}" for file in segment_files(arguments.run, "features")]
    assert spark.read.parquet(*files).count() == 9
    assert spark.read.parquet(*files).columns == schemas.FEATURES.names
    assert spark.read.parquet(f"{arguments.run}/rejects").columns == schemas.REJECTS.names


def test_named_bad_files_are_rejects_and_good_ones_features(spark: SparkSession, arguments: FeaturizeArgs) -> None:
    shutil.rmtree(local(arguments.images))
    local(arguments.images).mkdir()
    bad, good = add_named(arguments, "bad_*"), add_named(arguments, "good_*")
    summary = job.run(spark.sparkContext, replace(arguments, max_reject_ratio=0.5))
    assert (summary["features"], summary["rejects"]) == (good, bad)
    for row in rows(arguments.run, "features"):
        assert Path(row["path"]).name.startswith("good_")
        assert np.isfinite(row["features"]).all()
        assert len(row["features"]) == FEATURE_DIMENSIONS
    for row in rows(arguments.run, "rejects"):
        assert Path(row["path"]).name.startswith(f"bad_{row['reason']}")
        assert row["detail"]
    assert sum(summary["rejects_by_reason"].values()) == bad
    assert len(summary["first_rejects"]) == min(bad, completeness.EXAMPLES)


@pytest.mark.parametrize("images_per_task", [1, 4, 7, 64])
def test_the_rows_do_not_depend_on_the_partitioning(
    spark: SparkSession, arguments: FeaturizeArgs, images_per_task: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_named(arguments, "bad_truncated*")
    options = replace(arguments, max_reject_ratio=1.0)
    job.run(spark.sparkContext, options, engine=CONSTANT)
    expected = {kind: table(options.run, kind) for kind in staging.KINDS}
    monkeypatch.setattr(segments, "ROWS_PER_SEGMENT", 5)
    job.run(spark.sparkContext, replace(options, images_per_task=images_per_task), engine=CONSTANT)
    for kind, whole in expected.items():
        assert table(options.run, kind).equals(whole)
    found = json.loads((local(options.run) / "segments.json").read_text())["segments"]
    assert max(segment["images"] for segment in found) <= 5
    assert 3 <= len(found) <= 4


def test_the_model_sees_each_image_once(spark: SparkSession, arguments: FeaturizeArgs, tmp_path: Path) -> None:
    rejects = add_named(arguments, "bad_truncated*")
    calls = tmp_path / "calls"

    def counting_model(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
        def extract(pixels: decoding.Pixels) -> mobilenet.Features:
            with calls.open("a") as file:
                file.write(f"{os.getpid()} {pixels.mean()}\n")
            return np.zeros(FEATURE_DIMENSIONS, np.float32)

        return extract

    options = replace(arguments, max_reject_ratio=1.0, images_per_task=2)
    summary = job.run(spark.sparkContext, options, engine=Engine(counting_model))
    seen = calls.read_text().splitlines()
    assert summary["rejects"] == rejects > 0
    assert len(seen) == summary["features"] == 9
    assert str(os.getpid()) not in {line.split()[0] for line in seen}


@pytest.mark.parametrize(("value", "count"), [(np.nan, 3), (np.inf, 1), (-np.inf, 2)])
def test_features_that_are_not_finite_are_rejects(
    spark: SparkSession, arguments: FeaturizeArgs, value: float, count: int
) -> None:
    def broken_model(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
        def extract(_pixels: decoding.Pixels) -> mobilenet.Features:
            features = np.ones(FEATURE_DIMENSIONS, np.float32)
            features[:count] = value
            return features

        return extract

    summary = job.run(spark.sparkContext, replace(arguments, max_reject_ratio=1.0), engine=Engine(broken_model))
    assert summary["rejects_by_reason"] == {"non_finite_features": 9}
    assert summary["first_rejects"][0]["detail"] == f"{count} of {FEATURE_DIMENSIONS} values"


def test_nothing_but_rejects_gives_a_segment_without_features_where_it_is_allowed(
    spark: SparkSession, arguments: FeaturizeArgs
) -> None:
    shutil.rmtree(local(arguments.images))
    local(arguments.images).mkdir()
    bad = add_named(arguments, "bad_*")
    summary = job.run(spark.sparkContext, replace(arguments, max_reject_ratio=1.0))
    assert (summary["features"], summary["rejects"]) == (0, bad)
    (live,) = json.loads((local(arguments.run) / "segments.json").read_text())["segments"]
    assert (live["features"], live["rejects"], live["results"]) == (0, bad, [])
    files = {path.name for path in (local(arguments.run) / "segments" / live["id"]).iterdir()}
    assert files == {"rejects.parquet", "segment.json"}


def test_the_share_of_rejects_may_reach_the_limit(spark: SparkSession, arguments: FeaturizeArgs) -> None:
    assert add_named(arguments, "bad_empty_file*") == 1
    summary = job.run(spark.sparkContext, replace(arguments, max_reject_ratio=0.1), engine=CONSTANT)
    assert (summary["listed"], summary["rejects"]) == (10, 1)


def test_more_rejects_than_allowed_fail_with_counts_and_reasons(spark: SparkSession, arguments: FeaturizeArgs) -> None:
    add_named(arguments, "bad_empty_file*")
    with pytest.raises(JobError) as failure:
        job.run(spark.sparkContext, replace(arguments, max_reject_ratio=0.0999), engine=CONSTANT)
    message = str(failure.value)
    assert message.startswith("1 of 10 images (10.0 %) are rejects, more than the 0.0999")
    assert "1 empty_file. First: file://" in message
    assert "Named/bad_empty_file.jpg: empty_file (0 bytes)" in message
    assert not (local(arguments.run) / "featurize.json").exists()
    assert len(rows(arguments.run, "rejects")) == 1


@pytest.mark.parametrize(
    ("ratio", "listed", "rejects", "allowed"),
    [(0.29, 100, 29, True), (0.07, 100, 7, True), (0.05, 960, 48, True), (0.05, 960, 49, False), (0.0, 1, 0, True)],
)
def test_the_limit_is_compared_exactly(ratio: float, listed: int, rejects: int, allowed: bool) -> None:
    options = FeaturizeArgs(images="file:///i", run="file:///r", model="file:///m", max_reject_ratio=ratio)
    reasons = {"corrupt": rejects} if rejects else {}
    if allowed:
        completeness.check_reject_ratio(options, listed, reasons, [])
    else:
        with pytest.raises(JobError, match=f"{rejects} of {listed}"):
            completeness.check_reject_ratio(options, listed, reasons, [])


def state(folder: Path) -> set[str]:
    """What is in a run's folder, apart from its segments."""
    return {name for path in folder.rglob("*") if not (name := str(path.relative_to(folder))).startswith("segments/")}


def segment_bytes(folder: Path) -> dict[str, bytes]:
    """The files of all segments in a run's folder."""
    files = (path for path in (folder / "segments").rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_rerun_gives_the_same_rows_and_keeps_the_segments_of_the_first_attempt(
    spark: SparkSession, arguments: FeaturizeArgs
) -> None:
    first = job.run(spark.sparkContext, arguments)
    features, names = table(arguments.run, "features"), state(local(arguments.run))
    files = segment_bytes(local(arguments.run))
    second = job.run(spark.sparkContext, arguments)
    assert table(arguments.run, "features").equals(features)
    assert state(local(arguments.run)) == names
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert not (local(arguments.run) / "staging").exists()
    now = segment_bytes(local(arguments.run))
    assert {name: now.get(name) for name in files} == files
    assert len(now) == 2 * len(files), "the second attempt has segments of its own"


def test_the_next_day_computes_what_has_changed_and_keeps_the_other_rows(
    spark: SparkSession, arguments: FeaturizeArgs, tmp_path: Path
) -> None:
    """With Spark's own workers; test_histories.py has the histories."""
    files = sorted(local(arguments.images).glob("*/*.jpg"))
    calls = tmp_path / "calls"

    def counting_model(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
        def extract(pixels: decoding.Pixels) -> mobilenet.Features:
            with calls.open("a") as file:
                file.write("seen\n")
            return np.full(FEATURE_DIMENSIONS, pixels.mean(), np.float32)

        return extract

    def run_day(slug: str, published: changes.Published | None) -> FeaturizeSummary:
        run = f"file://{tmp_path}/runs/{slug}"
        options = replace(
            arguments, run=run, changes=f"{run}/changes.json", segments=f"file://{tmp_path}/segments", small_segments=1
        )
        planned = fingerprint.planned(mobilenet.read(options.model).digest, options)
        changes.find(changes.Folder(options.images, options.pattern), run, planned, published)
        calls.write_text("")
        return job.run(spark.sparkContext, options, engine=Engine(counting_model))

    first = run_day("first", None)
    before = {row["path"]: row for row in rows(f"file://{tmp_path}/runs/first", "features")}
    files[0].unlink()
    shutil.copyfile(files[1], files[2])
    shutil.copyfile(files[1], files[1].with_name("new.jpg"))
    live = json.loads((tmp_path / "runs" / "first" / "segments.json").read_text())["segments"]
    published = changes.Published(f"file://{tmp_path}/runs/first/listing.parquet", first["fingerprint"], live)
    second = run_day("second", published)
    assert len(calls.read_text().splitlines()) == second["featurized"] == 2
    assert (second["listed"], second["features"], second["segments"], second["rewritten"]) == (9, 9, 1, 1)
    found = rows(f"file://{tmp_path}/runs/second", "features")
    after = {row["path"]: row for row in found}
    assert len(after) == len(found) == 9
    copied = f"file://{files[2]}", f"file://{files[1].with_name('new.jpg')}"
    source = before[f"file://{files[1]}"]["features"]
    assert [after[path]["features"] for path in copied] == [source, source]
    untouched = before.keys() - {f"file://{file}" for file in (files[0], files[2])}
    assert {path: after[path] for path in untouched} == {path: before[path] for path in untouched}
    assert after.keys() == untouched | set(copied)


def test_leftovers_of_a_failed_try_and_stale_components_go_and_nothing_else(
    spark: SparkSession, arguments: FeaturizeArgs
) -> None:
    run = local(arguments.run)
    ours = [
        "staging/features/part-00000-old.parquet",
        "staging/rejects/part-00007-old.parquet",
        "segments.json",
        "rejects/part-00099-old.parquet",
        "listing.parquet",
        "work.parquet",
        "gone.parquet",
        "changes.json",
        "featurize.json",
        "pca/scores/part-0.parquet",
        "pca/pca_features.csv",
        "pca.json",
    ]
    others = ["manifest.json", "notes/mine.txt", "report.html", "segments/a run-0badcafe-00000/features.parquet"]
    for name in ours + others:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("old")
    job.run(spark.sparkContext, arguments, engine=CONSTANT)
    for name in others:
        assert (run / name).read_text() == "old"
    assert not (run / "pca").exists()
    assert not (run / "pca.json").exists()
    assert not (run / "staging").exists()
    assert [path.name for path in (run / "rejects").iterdir()] == ["part-00000.parquet"]
    assert table(arguments.run, "features").num_rows == 9
    assert json.loads((run / "featurize.json").read_text())["listed"] == 9


def test_a_try_that_fails_midway_leaves_no_summary_and_the_next_is_whole(
    spark: SparkSession, arguments: FeaturizeArgs
) -> None:
    job.run(spark.sparkContext, arguments, engine=CONSTANT)

    def failing_model(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
        raise RuntimeError("the model is lost")

    with pytest.raises(Exception, match="the model is lost"):
        job.run(spark.sparkContext, arguments, engine=Engine(failing_model))
    assert not (local(arguments.run) / "featurize.json").exists()
    assert job.run(spark.sparkContext, arguments, engine=CONSTANT)["features"] == 9
    assert not (local(arguments.run) / "staging").exists()


def test_labels_and_hidden_names_come_out_as_they_are_on_disk(spark: SparkSession, arguments: FeaturizeArgs) -> None:
    source = next(local(arguments.images).glob("*/*.jpg"))
    names = ["_x.jpg", ".x.jpg", "a b.jpg", "50 %.jpg", "%20.jpg", "a#b+c?.jpg", "pêche.JPEG", "new\nline.jpg"]
    labels = ["_hidden", ".hidden", "with space", "50 % off", "%2F", "a#b", "c+d", "pêche d'été"]
    for label in labels:
        for name in names:
            (local(arguments.images) / "deep" / label).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, local(arguments.images) / "deep" / label / name)
    run = arguments.run + "/50 % of a#b+c"
    options = replace(arguments, run=run, images_per_task=9, include_hidden=True)
    summary = job.run(spark.sparkContext, options, engine=CONSTANT)
    assert summary["features"] == 9 + len(names) * len(labels)
    found = {(row["label"], row["path"]) for row in rows(run, "features")}
    root = f"{arguments.images}/deep"
    assert found >= {(label, f"{root}/{label}/{name}") for label in labels for name in names}


def test_files_that_cannot_be_read_are_rejects(spark: SparkSession, arguments: FeaturizeArgs) -> None:
    folder = local(arguments.images) / "odd"
    folder.mkdir()
    (folder / "gone.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "big.jpg").write_bytes(bytes(200_001))
    options = replace(arguments, max_file_bytes=200_000, max_reject_ratio=1.0)
    job.run(spark.sparkContext, options, engine=CONSTANT)
    found = {Path(row["path"]).name: row["reason"] for row in rows(arguments.run, "rejects")}
    assert found == {"gone.jpg": "vanished", "pipe.jpg": "unreadable", "big.jpg": "file_too_large"}


def test_refused_changed_and_vanished_files_and_folders_have_reasons_of_their_own(
    spark: SparkSession, arguments: FeaturizeArgs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens between listing and reading: the files are changed when the listing is complete."""
    folder = local(arguments.images) / "odd"
    photo = next(local(arguments.images).glob("*/*.jpg"))
    for name in ("grown.jpg", "gone.jpg", "kept.jpg"):
        folder.mkdir(exist_ok=True)
        shutil.copyfile(photo, folder / name)
    (folder / "folder.jpg").mkdir()
    shutil.copyfile(photo, folder / "folder.jpg" / "inside.jpg")
    find = changes.find

    def list_and_change(*arguments: Any, **options: Any) -> Changes:
        found = find(*arguments, **options)
        (folder / "grown.jpg").write_bytes(photo.read_bytes() + b"more")
        (folder / "gone.jpg").unlink()
        return found

    monkeypatch.setattr(changes, "find", list_and_change)
    summary = job.run(spark.sparkContext, replace(arguments, max_reject_ratio=1.0), engine=CONSTANT)
    found = {row["path"].rpartition("/odd/")[2]: row["reason"] for row in rows(arguments.run, "rejects")}
    assert found == {"grown.jpg": "changed", "gone.jpg": "vanished", "folder.jpg/": "directory"}
    assert summary["features"] == 9 + 2
    assert {row["label"] for row in rows(arguments.run, "features")} >= {"odd", "folder.jpg"}


def test_a_crash_in_a_decoder_costs_that_file_alone(spark: SparkSession, arguments: FeaturizeArgs) -> None:
    """By SIGSEGV, by memory, by never ending: in each of local[2]'s workers, among good files."""
    folder = local(arguments.images)
    for number, data in enumerate(deadly_decoder.DEADLY * 3):
        (folder / sorted(path.name for path in folder.iterdir())[number % 3] / f"{number}_deadly.jpg").write_bytes(data)
    engine = replace(CONSTANT, decode_program=deadly_decoder.PROGRAM)
    options = replace(arguments, max_reject_ratio=1.0, decode_seconds=2, images_per_task=6)
    summary = job.run(spark.sparkContext, options, engine=engine)
    assert summary["rejects_by_reason"] == {"decoder_crashed": 15}
    assert summary["features"] == 9
    details = Counter(row["detail"] for row in rows(arguments.run, "rejects"))
    assert sorted(details.values()) == [3] * 5
    assert {"decoding ended by SIGSEGV", "decoding took more than 2 s"} <= set(details)
    assert "decoding takes more memory than the limit of 1024 MiB" in details


def test_a_corpus_of_damaged_files_gives_features_or_rejects_and_no_nan(
    spark: SparkSession, arguments: FeaturizeArgs
) -> None:
    folder = local(arguments.images) / "Damaged"
    folder.mkdir()
    files = dict(mutations.corpus())
    for name, data in files.items():
        (folder / name).write_bytes(data)
    assert len(files) >= 200
    summary = job.run(spark.sparkContext, replace(arguments, max_reject_ratio=1.0))
    vectors = np.array([row["features"] for row in rows(arguments.run, "features")])
    assert vectors.shape == (summary["features"], FEATURE_DIMENSIONS)
    assert np.isfinite(vectors).all()
    assert summary["features"] + summary["rejects"] == len(files) + 9
    assert set(summary["rejects_by_reason"]) <= set(rejects.REASONS)
    assert len(summary["rejects_by_reason"]) >= 3  # else the corpus is too tame to prove anything
    assert 20 < summary["rejects"] < len(files)


def test_ten_thousand_rejects_fill_the_dataset_and_not_the_log(
    spark: SparkSession,
    arguments: FeaturizeArgs,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = local(arguments.images) / "Junk"
    folder.mkdir()
    (folder / "text").write_text("no image")
    (folder / "nothing").touch()
    for number in range(10_000):
        os.link(folder / ("nothing" if number % 10 == 0 else "text"), folder / f"{number:05}.jpg")
    with caplog.at_level(logging.INFO):
        summary = job.run(spark.sparkContext, replace(arguments, max_reject_ratio=1.0), engine=CONSTANT)
    assert summary["rejects_by_reason"] == {"not_an_image": 9_000, "empty_file": 1_000}
    assert len(summary["first_rejects"]) == completeness.EXAMPLES
    assert table(arguments.run, "rejects").num_rows == 10_000
    assert table(arguments.run, "features").num_rows == 9
    assert len(caplog.records) < 40
    captured = capfd.readouterr()
    assert len(captured.out + captured.err) < 5_000
    assert len((local(arguments.run) / "featurize.json").read_bytes()) < 20_000


@pytest.mark.parametrize("orientation", ["ignore", "apply"])
def test_exif_orientation_is_a_setting(spark: SparkSession, arguments: FeaturizeArgs, orientation: str) -> None:
    shutil.rmtree(local(arguments.images))
    local(arguments.images).mkdir()
    add_named(arguments, "good_exif_rotated.jpg")
    job.run(spark.sparkContext, replace(arguments, exif_orientation=orientation), engine=Engine(corner_model))
    (row,) = rows(arguments.run, "features")
    with Image.open(NAMED / "good_exif_rotated.jpg") as image:
        upright = ImageOps.exif_transpose(image) if orientation == "apply" else image
        expected = np.asarray(upright.resize((224, 224)))[:10, :10].mean()
    assert row["features"][0] == pytest.approx(expected)


def test_a_lost_row_fails_with_the_figures_and_the_path(spark: SparkSession, arguments: FeaturizeArgs) -> None:
    job.run(spark.sparkContext, arguments, engine=CONSTANT)
    (file,) = segment_files(arguments.run, "features")
    whole = pq.read_table(file, partitioning=None)
    live = json.loads((local(arguments.run) / "segments.json").read_text())

    def check(rows: int) -> None:
        live["segments"][0]["features"] = rows
        completeness.check(arguments.run, live, 9)

    check(9)
    pq.write_table(pa.concat_tables([whole.slice(0, 4), whole.slice(5)]), file)
    missing = whole["path"][4].as_py()
    with pytest.raises(JobError, match=r"9 images were listed, but 8 features \+ 0 rejects = 8 rows") as failure:
        check(8)
    assert f"{missing} is missing" in str(failure.value)
    pq.write_table(pa.concat_tables([whole.slice(0, 4), whole.slice(3)]), file)
    with pytest.raises(JobError, match="was not listed, or was written twice"):
        check(10)


def test_the_summary_counts_what_is_left_out_and_warns_of_labels_that_disappear(
    spark: SparkSession, arguments: FeaturizeArgs, caplog: pytest.LogCaptureFixture
) -> None:
    folder = local(arguments.images)
    photo = next(folder.glob("*/*.jpg"))
    for name in ("banana/1.PNG", "banana/2.PNG", "cherry/1.HEIC", "__MACOSX/apple/._1.jpg", ".ipynb_checkpoints/1.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, folder / name)
    loader = LeftOutCounter()
    loader.skip("1.gif", "damson", at_top=False)
    (folder / NOT_LOADED_FILE).write_text(json.dumps(loader.record("/photos", "*.jpg")))
    with caplog.at_level(logging.INFO):
        summary = job.run(spark.sparkContext, arguments, engine=CONSTANT)
    assert (summary["listed"], summary["skipped"], summary["hidden"]) == (9, 3, 2)
    first, second = summary["left_out"]
    assert first["skipped_by_extension"] == [{"extension": ".png", "files": 2}, {"extension": ".heic", "files": 1}]
    assert first["lost_labels"] == ["banana", "cherry"]
    assert second == loader.record("/photos", "*.jpg")
    assert [warning.partition(". ")[0] for warning in summary["warnings"]] == [
        f"2 labels in {arguments.images} without any image: banana, cherry",
        "1 label in /photos without any image: damson",
    ]
    logged = [entry.getMessage() for entry in caplog.records]
    assert set(summary["warnings"]) <= set(logged)
    assert json.loads((local(arguments.run) / "featurize.json").read_text()) == summary

    hidden = job.run(spark.sparkContext, replace(arguments, include_hidden=True), engine=CONSTANT)
    assert (hidden["listed"], hidden["hidden"]) == (11, 0)


def test_the_summary_says_what_was_done(
    spark: SparkSession, arguments: FeaturizeArgs, caplog: pytest.LogCaptureFixture
) -> None:
    add_named(arguments, "bad_empty_file*")
    with caplog.at_level(logging.INFO):
        job.run(spark.sparkContext, replace(arguments, max_reject_ratio=0.1))
    record = json.loads((local(arguments.run) / "featurize.json").read_text())
    model = json.loads((local(arguments.model) / "model.json").read_text())
    assert record["job"] == "featurize"
    assert record["dimensions"] == FEATURE_DIMENSIONS
    assert record["model"] == {"digest": model["digest"], "weights": model["weights"]}
    assert record["arguments"]["pattern"] == arguments.pattern
    assert set(record["seconds"]) == {"list", "featurize", "write", "total"}
    assert record["spark_version"] == spark.sparkContext.version
    assert record["first_rejects"][0]["reason"] == "empty_file"
    lines = [entry.getMessage() for entry in caplog.records]
    assert lines[-1].startswith("featurize done: 10 images listed, 10 computed, 9 features, 1 rejects in ")
    found = [match for line in lines if (match := progress.PROGRESS_PATTERN.search(line))]
    assert [found[0]["done"], found[-1]["done"], found[-1]["total"]] == ["0", "10", "10"]
    random = model["weights"]["source"] == "random"
    assert any("random weights" in line for line in lines) == random


def test_random_weights_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, spark: SparkSession, arguments: FeaturizeArgs, caplog: pytest.LogCaptureFixture
) -> None:
    model = mobilenet.read(arguments.model)
    monkeypatch.setattr(mobilenet, "read", lambda _: replace(model, weights={"source": "random", "seed": 1}))
    summary = job.run(spark.sparkContext, arguments, engine=CONSTANT)
    assert summary["model"]["weights"]["source"] == "random"
    assert [entry.levelname for entry in caplog.records if "random weights" in entry.getMessage()] == ["WARNING"]


Change = Callable[[FeaturizeArgs], FeaturizeArgs]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda options: replace(options, images=options.images + "/none"), "/none does not exist"),
        (lambda options: replace(options, pattern="*.tiff"), r"no file in .* matches the pattern '\*\.tiff'"),
        (lambda options: replace(options, model=options.model + "/none"), "there is no model at"),
        (lambda options: replace(options, changes=options.run + "/none"), "a run/none does not exist: check --changes"),
    ],
)
def test_missing_inputs_are_clear_errors(
    spark: SparkSession, arguments: FeaturizeArgs, change: Change, message: str
) -> None:
    with pytest.raises(JobError, match=message):
        job.run(spark.sparkContext, change(arguments))
