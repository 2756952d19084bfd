from __future__ import annotations

import functools
import json
import logging
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from threadpoolctl import threadpool_info

from spark_jobs.args import PcaArgs
from spark_jobs.errors import JobError
from spark_jobs.lake import parts
from spark_jobs.lake.schemas import SCORES
from spark_jobs.numerics import moments
from spark_jobs.pca import analysis, job
from spark_jobs.runtime import context, progress
from tests.spark_jobs.feature_runs import (
    feature_file,
    feature_files,
    feature_name,
    moments_file,
    path_of,
    realistic,
    rewrite,
    write_live_segments,
    write_run,
)
from tests.spark_jobs.spark_ml_reference import same_up_to_sign

pytestmark = [
    pytest.mark.slow,
    # PySpark's RDD.collect drops its side of a loopback connection without closing it first.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


def run(folder: str, target: float = 0.8) -> dict:
    return job.run(PcaArgs(run=folder, variance_target=target))


def scores_of(folder: Path) -> np.ndarray:
    return np.array(ds.dataset(folder / "pca" / "scores").to_table().column("components").to_pylist())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_that_a_run_leaves(spark: SparkSession, tmp_path: Path) -> None:
    vectors = realistic(47, 16)
    labels = [["Pêche", "Apple, red", 'the "one"'][row % 3] for row in range(47)]
    summary = run(write_run(tmp_path, vectors, labels=labels), 0.9)
    rows = vectors.astype(np.float64)
    ratio = np.sort(np.linalg.eigvalsh(np.cov(rows.T)))[::-1] / np.trace(np.cov(rows.T))
    k = int((ratio.cumsum() >= 0.9).argmax()) + 1

    assert summary == json.loads((tmp_path / "pca.json").read_text())
    names = ("job", "images", "dimensions", "k", "variance_target", "n_components", "scores", "warnings")
    assert {name: summary[name] for name in names} == {
        "job": "pca", "images": 47, "dimensions": 16, "k": k, "variance_target": 0.9, "n_components": None,
        "scores": "projected", "warnings": [],
    }  # fmt: skip
    np.testing.assert_allclose(summary["explained_variance_ratio"], ratio[:k], rtol=1e-9)
    assert summary["variance_reached"] == pytest.approx(ratio[:k].sum(), rel=1e-9)
    stages = ["start", "moments", "fit", "scores", "model", "csv", "quality", "drift", "insights", "total"]
    assert list(summary["seconds"]) == stages
    assert summary["arguments"] == asdict(PcaArgs(run=tmp_path.as_uri(), variance_target=0.9))
    outputs = sorted(path.name for path in (tmp_path / "pca").iterdir())
    assert outputs == ["insights", "model.npz", "pca_features.csv", "scores", "spark_ml"]

    with np.load(tmp_path / "pca" / "model.npz") as file:
        model = {name: file[name] for name in file.files}
    assert (model["n_samples_"], model["components_"].shape, model["eigenvalues"].shape) == (47, (k, 16), (16,))
    np.testing.assert_allclose(model["mean_"], rows.mean(axis=0), rtol=1e-12)

    written = ds.dataset(tmp_path / "pca" / "scores").to_table()
    assert written.schema.equals(SCORES)
    assert written.column("path").to_pylist() == [path_of(row) for row in range(47)]
    assert written.column("label").to_pylist() == labels
    np.testing.assert_allclose(scores_of(tmp_path), rows @ model["components_"].T, rtol=1e-12, atol=1e-12)

    frame = pd.DataFrame(scores_of(tmp_path), columns=[f"F {number}" for number in range(1, k + 1)])
    frame.assign(label=labels).to_csv(tmp_path / "reference.csv", index=False)
    assert (tmp_path / "pca" / "pca_features.csv").read_bytes() == (tmp_path / "reference.csv").read_bytes()


def test_files_parts_and_order_do_not_matter(here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = realistic(20, 12)
    expected = run(write_run(tmp_path / "one", vectors, rows_a_file=20), 0.9)
    reference = scores_of(tmp_path / "one")
    order = np.random.default_rng(8).permutation(20)
    monkeypatch.setattr(parts, "PART_ROWS", 1)  # every row group becomes a part
    for rows_a_file in (1, 3, 10):
        folder = tmp_path / str(rows_a_file)
        uri = write_run(folder, vectors[order], rows_a_file=rows_a_file)
        shares = len(parts.split(parts.pieces(feature_files(uri))))
        assert shares == -(-20 // rows_a_file)
        summary = run(uri, 0.9)
        assert summary["k"] == expected["k"]
        assert len(list((folder / "pca" / "scores").glob("part-*.parquet"))) == shares
        np.testing.assert_allclose(scores_of(folder), reference[order], rtol=1e-9, atol=1e-9)


def test_a_rerun_gives_the_same_files_and_no_leftovers(here: None, tmp_path: Path) -> None:
    uri = write_run(tmp_path, realistic(30, 8))
    run(uri)
    first = files_of(tmp_path)
    for leftover in (
        "csv/part-00007.csv",
        "scores/part-00007.parquet",
        "scores/.part-00000.parquet.1f",
        "notes",
        "scores/_temporary/0/x",
    ):
        (tmp_path / "pca" / leftover).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pca" / leftover).write_bytes(b"left by a failed attempt")
    run(uri)
    second = files_of(tmp_path)
    assert {name: data for name, data in second.items() if name != "pca.json"} == {
        name: data for name, data in first.items() if name != "pca.json"
    }
    untimed = [{**json.loads(files["pca.json"]), "seconds": None} for files in (first, second)]
    assert untimed[0] == untimed[1]


def test_a_failed_rerun_leaves_no_summary_and_no_outputs(here: None, tmp_path: Path) -> None:
    uri = write_run(tmp_path, realistic(30, 8))
    run(uri)
    (tmp_path / "featurize.json").unlink()
    with pytest.raises(JobError, match="featurize has not completed for this run"):
        run(uri)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["listing.parquet", "segments", "segments.json"]


@pytest.mark.parametrize("vectors", [[[0.5, 1.5, 2.5]], [[0.1, 0.2, 0.3]] * 8], ids=["one image", "all alike"])
def test_no_variance_is_one_component_and_a_warning(
    here: None, tmp_path: Path, vectors: list[list[float]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="spark_jobs"):
        summary = run(write_run(tmp_path, vectors))
    assert (summary["k"], summary["variance_reached"], summary["explained_variance_ratio"]) == (1, 0, [0])
    assert len(summary["warnings"]) == 1
    assert summary["warnings"][0] in caplog.messages
    assert scores_of(tmp_path).shape == (len(vectors), 1)


def test_zero_images_are_an_error(here: None, tmp_path: Path) -> None:
    uri = write_run(tmp_path, [], summary={"listed": 3, "rejects": 3})
    with pytest.raises(JobError, match=r"features of 0 images: expected 1 or more; featurize listed 3 files, 3 of"):
        run(uri)


def test_segments_of_rejects_among_others_are_no_rows(here: None, tmp_path: Path) -> None:
    uri = write_run(tmp_path, realistic(9, 4), rows_a_file=3)
    live = json.loads((tmp_path / "segments.json").read_text())["segments"]
    rejects = [{**live[0], "id": f"of rejects {number}", "features": 0, "rejects": 2} for number in range(3)]
    write_live_segments(tmp_path, [rejects[0], live[0], rejects[1], *live[1:], rejects[2]])
    assert run(uri)["images"] == 9
    assert len(scores_of(tmp_path)) == 9


def test_other_rows_than_featurize_counted_are_an_error(here: None, tmp_path: Path) -> None:
    for rows in (0, 19, 21):
        folder = tmp_path / str(rows)
        uri = write_run(folder, realistic(rows, 4), summary={"features": 20, "dimensions": 4})
        with pytest.raises(JobError, match=f"have {rows} rows of features, featurize counted 20"):
            run(uri)
        assert not (folder / "pca.json").exists()


def test_other_dimensions_than_featurize_counted_are_an_error(here: None, tmp_path: Path) -> None:
    uri = write_run(tmp_path, realistic(20, 4), summary={"dimensions": 1280})
    with pytest.raises(JobError, match=f"{path_of(0)}' has 4 values: expected 1280 features"):
        run(uri)


def test_an_invalid_vector_fails_the_program_and_the_message_names_the_image(
    spark: SparkSession, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = realistic(20, 4)
    vectors[13, 2] = np.nan
    uri = write_run(tmp_path, vectors)
    assert job.main([f"--run={uri}"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"spark_jobs.errors.JobError: feature 2 of {path_of(13)!r} is nan")


def test_the_program_ends_with_one_summary_line(here: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uri = write_run(tmp_path, realistic(20, 4))
    with caplog.at_level(logging.INFO, logger="spark_jobs"):
        assert job.main([f"--run={uri}", "--variance-target=0.5"]) == 0
    assert caplog.messages[-1].startswith("pca done: 20 images, ")
    lines = [found for message in caplog.messages if (found := progress.PROGRESS_PATTERN.search(message))]
    assert {(line["name"], line["total"], line["unit"]) for line in lines} == {
        ("pca-moments", "20", "images"),
        ("pca-scores", "20", "images"),
    }


def test_a_complete_task_counts_as_a_share_of_the_images(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "completed_tasks", lambda sc: 1)
    monkeypatch.setattr(progress, "track", functools.partial(progress.track, seconds=0.01))
    shares = [[parts.Piece("a", 0, 0, rows)] for rows in (3, 4)]
    deadline = time.monotonic() + 10
    with (
        caplog.at_level(logging.INFO, logger="spark_jobs"),
        analysis._track(None, "pca-moments", shares),
    ):
        while len(caplog.messages) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    lines = [progress.PROGRESS_PATTERN.search(message) for message in caplog.messages]
    assert [(line["done"], line["total"]) for line in lines] == [("0", "7"), ("4", "7"), ("7", "7")]


def test_help_needs_no_spark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(context, "start", lambda name: pytest.fail("Spark was started"))
    with pytest.raises(SystemExit) as ended:
        job.main(["--help"])
    assert ended.value.code == 0
    assert "--variance-target" in capsys.readouterr().out


def test_blas_has_one_thread_in_a_worker(spark: SparkSession) -> None:
    def threads(_: int) -> list[int]:
        np.ones((2, 2)) @ np.ones((2, 2))
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    if "OPENBLAS_NUM_THREADS" in os.environ:
        pytest.skip("the environment sets the threads itself")
    found = spark.sparkContext.parallelize([0], 1).map(threads).collect()
    assert found == [[1]]


@pytest.fixture
def moment_passes(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The passes that compute moments: the names of the files that each one reads."""
    passes: list[list[str]] = []
    compute = analysis._compute

    def counted(spark: object, features: object, names: dict[str, str]) -> moments.Moments:
        if names:
            passes.append(sorted(names))
        return compute(spark, features, names)  # type: ignore[arg-type]

    monkeypatch.setattr(analysis, "_compute", counted)
    return passes


def assert_is_the_pca_of(folder: Path, vectors: np.ndarray) -> None:
    """Hold a run's scores and ratios against numpy's singular values of the vectors."""
    rows = vectors.astype(np.float64)
    _, singular, axes = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    summary = json.loads((folder / "pca.json").read_text())
    ratio = singular**2 / (singular**2).sum()
    np.testing.assert_allclose(summary["explained_variance_ratio"], ratio[: summary["k"]], rtol=1e-8)
    same_up_to_sign(scores_of(folder), rows @ axes[: summary["k"]].T)


def test_stored_moments_are_used_without_a_pass_over_the_vectors(
    here: None, tmp_path: Path, moment_passes: list[list[str]]
) -> None:
    vectors = realistic(60, 8)
    summary = run(write_run(tmp_path, vectors, rows_a_file=25, with_moments=True), 0.9)
    assert moment_passes == []
    assert summary["moments"] == {"stored": 3, "computed": {}}
    assert_is_the_pca_of(tmp_path, vectors)


def test_only_files_without_matching_moments_are_read_for_moments(
    here: None, tmp_path: Path, moment_passes: list[list[str]]
) -> None:
    vectors = realistic(60, 8)
    uri = write_run(tmp_path, vectors, rows_a_file=15, with_moments=True)
    moments_file(tmp_path, 1).unlink()
    moments_file(tmp_path, 3).write_bytes(b"damaged")
    summary = run(uri, 0.9)
    assert moment_passes == [[feature_name(1), feature_name(3)]]
    assert summary["moments"]["stored"] == 2
    assert summary["moments"]["computed"][feature_name(1)] == "it has no stored moments"
    assert_is_the_pca_of(tmp_path, vectors)


def test_vectors_that_differ_from_their_digest_repeat_the_fit_and_the_scores(
    here: None, tmp_path: Path, moment_passes: list[list[str]]
) -> None:
    vectors = realistic(60, 8)
    uri = write_run(tmp_path, vectors, rows_a_file=30, with_moments=True)
    vectors[40:] *= 3
    changed = pa.array(list(vectors[30:]), pa.list_(pa.float32()))
    rewrite(feature_file(tmp_path, 1), lambda table: table.set_column(2, table.schema.field("features"), changed))
    summary = run(uri, 0.9)
    assert moment_passes == [[feature_name(1)]]
    assert summary["moments"]["stored"] == 1
    assert "its vectors differ from those" in summary["moments"]["computed"][feature_name(1)]
    assert_is_the_pca_of(tmp_path, vectors)


def test_the_certificate_uses_the_requested_sample(here: None, tmp_path: Path) -> None:
    uri = write_run(tmp_path, realistic(90, 8), rows_a_file=7)
    for sample in (0, 20, 2000):
        quality = job.run(PcaArgs(run=uri, sample_images=sample, seed=4))["quality"]
        if sample == 0:
            assert quality is None
        else:
            assert quality is not None
            assert (quality["sample_images"], quality["seed"], quality["labels"]) == (min(sample, 90), 4, 3)


def test_the_certificate_does_not_depend_on_files_and_order(here: None, tmp_path: Path) -> None:
    vectors = realistic(90, 8)
    labels = [f"Apple {row % 3}" for row in range(90)]
    first = write_run(tmp_path / "a", vectors, labels=labels, rows_a_file=90)
    second = write_run(tmp_path / "b", vectors, labels=labels, rows_a_file=11, with_moments=True)
    arguments = PcaArgs(run=first, sample_images=40, n_components=3, variance_target=None)
    found = [job.run(replace(arguments, run=uri))["quality"] for uri in (first, second)]
    assert found[0]["knn_accuracy"] == found[1]["knn_accuracy"]
    assert found[0]["silhouette"]["components"] == pytest.approx(found[1]["silhouette"]["components"], rel=1e-9)


def test_drift_since_an_earlier_model_is_reported(here: None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(write_run(tmp_path / "before", realistic(200, 8)))
    uri = write_run(tmp_path / "now", realistic(200, 8) + np.float32(2))
    with caplog.at_level(logging.WARNING, logger="spark_jobs"):
        summary = job.run(PcaArgs(run=uri, previous_model=(tmp_path / "before" / "pca" / "model.npz").as_uri()))
    assert summary["drift"]["reason"] is None
    (warning,) = summary["drift"]["warnings"]
    assert summary["warnings"] == [warning]
    assert warning in caplog.messages


def test_a_previous_model_that_cannot_be_read_is_reported_and_no_failure(here: None, tmp_path: Path) -> None:
    uri = write_run(tmp_path / "run", realistic(20, 4))
    (tmp_path / "damaged").write_bytes(b"PK\x03\x04 half of a file")
    (tmp_path / "folder").mkdir()
    for name in ("missing", "damaged", "folder"):
        summary = job.run(PcaArgs(run=uri, previous_model=(tmp_path / name).as_uri()))
        assert name in str(summary["drift"]["reason"])
        assert summary["drift"]["warnings"] == []
        assert json.loads((tmp_path / "run" / "pca.json").read_text()) == summary


def test_more_components_than_features_are_an_error_before_spark_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "start", lambda name: pytest.fail("Spark was started"))
    uri = write_run(tmp_path, realistic(20, 4))
    with pytest.raises(JobError, match=r"--n-components is 5: the images have 4 features, expected no more"):
        job.run(PcaArgs(run=uri, n_components=5))


def test_a_violated_property_ends_the_program_with_its_figures(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = write_run(tmp_path, realistic(50, 6))
    eigh = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: (eigh(matrix)[0], eigh(matrix)[1] * 1.001))
    assert job.main([f"--run={uri}"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("builtins.ArithmeticError: the PCA of 50 images is wrong")
    assert "orthonormal" in last
    assert not (tmp_path / "pca.json").exists()


def test_a_score_missing_from_the_csv_fails_the_job(
    here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = write_run(tmp_path, realistic(20, 4))
    project = analysis.project

    def lose_one(*args: object, **options: object) -> object:
        done = project(*args, **options)  # type: ignore[arg-type]
        file = tmp_path / "pca" / "scores" / "part-00000.parquet"
        pq.write_table(pq.read_table(file).slice(1), file)
        return done

    monkeypatch.setattr(analysis, "project", lose_one)
    with pytest.raises(JobError, match="pca/scores has 19 rows for 20 images: run the job again"):
        run(uri)
    assert not (tmp_path / "pca.json").exists()
