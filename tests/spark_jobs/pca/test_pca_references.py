"""The pca job compared with scikit-learn and Spark ML, for all kinds of input.

Axes with variance are compared up to sign; axes with equal variances are compared as subspaces. The tolerance follows
from the gap between a variance and the next one (Davis and Kahan 1970: the error of an eigenvector is the error of the
matrix divided by this gap).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from sklearn.decomposition import PCA

from spark_jobs.args import PcaArgs
from spark_jobs.lake import parts
from spark_jobs.pca import blocks, job
from spark_jobs.runtime import workers
from tests.spark_jobs.feature_runs import realistic, write_run
from tests.spark_jobs.spark_ml_reference import fit_spark_ml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("here"),
    # PySpark's RDD.collect drops its side of a loopback connection without closing it first.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

EPS = np.finfo(np.float64).eps
ERROR = 200 * EPS
"""Error of a covariance and its decomposition (ours and the reference's), relative to the largest variance."""

COMPARED = 1e-11
"""Smallest variance, relative to the largest, whose axis is compared; smaller ones have only two correct digits."""


def random(n: int, d: int) -> np.ndarray:
    return np.random.default_rng(20261122).normal(size=(n, d))


def equal_pairs() -> np.ndarray:
    """Return vectors whose covariance has eigenvalues proportional to 9, 9, 4, 4, 1, 1, along no feature's axis."""
    rotation, _ = np.linalg.qr(random(6, 6))
    along = np.diag([3.0, 3, 2, 2, 1, 1]) @ rotation
    return np.concatenate([along, -along])


@dataclass(frozen=True)
class Given:
    """Features as they are stored."""

    rows: np.ndarray
    type: pa.DataType = pa.list_(pa.float32())


DOUBLES = pa.list_(pa.float64())

GIVEN = {
    "float32": Given(realistic(90, 10)),
    "float64": Given(random(90, 10) * np.geomspace(1, 0.1, 10) + 0.3, DOUBLES),
    "fewer rows than features": Given(realistic(7, 10)),
    "two rows": Given(realistic(2, 6)),
    "duplicated rows": Given(np.repeat(realistic(12, 8), 5, axis=0)),
    "few rows duplicated": Given(np.repeat(realistic(5, 8), 6, axis=0)),
    "constant columns": Given(np.where(np.isin(np.arange(8), [2, 5]), 0.1, realistic(40, 8))),
    "very different scales": Given(random(200, 8) * np.geomspace(1e-3, 1e4, 8), DOUBLES),
    "mean much larger than deviation": Given(random(200, 8) * np.geomspace(1, 0.1, 8) + 1e6, DOUBLES),
    "equal variances": Given(equal_pairs(), DOUBLES),
}


@dataclass(frozen=True)
class Found:
    """The job's output in a run's folder."""

    summary: dict[str, Any]
    model: dict[str, np.ndarray]
    scores: np.ndarray


def store(folder: Path, given: Given, rows_a_file: int = 11) -> np.ndarray:
    """Write a run's features, and return them in float64 as they were stored."""
    write_run(folder, given.rows.tolist(), rows_a_file=rows_a_file)
    rows = given.rows.astype(given.type.value_type.to_pandas_dtype())
    for number, file in enumerate(sorted(folder.glob("segments/*/features.parquet"))):
        cut = rows[number * rows_a_file : (number + 1) * rows_a_file]
        column = pa.FixedSizeListArray.from_arrays(pa.array(cut.ravel()), cut.shape[1]).cast(given.type)
        pq.write_table(pq.read_table(file).set_column(2, "features", column), file)
    return rows.astype(np.float64)


def run(folder: Path, k: int, scores: str = "projected") -> Found:
    arguments = PcaArgs(folder.as_uri(), variance_target=None, n_components=k, scores=scores, sample_images=0)
    summary = job.run(arguments)
    with np.load(folder / "pca" / "model.npz") as file:
        model = {name: file[name] for name in file.files}
    written = ds.dataset(folder / "pca" / "scores").to_table().column("components").to_pylist()
    return Found(summary, model, np.array(written))


@dataclass(frozen=True)
class Reference:
    """The result of another implementation, for as many axes as it returns."""

    components: np.ndarray
    ratios: np.ndarray
    projected: np.ndarray


def scikit_learn(rows: np.ndarray) -> tuple[Reference, np.ndarray]:
    """Return the reference and the variances along all d axes."""
    fitted = PCA(svd_solver="full").fit(rows)
    variances = np.zeros(rows.shape[1])
    variances[: len(fitted.explained_variance_)] = fitted.explained_variance_
    reference = Reference(fitted.components_, fitted.explained_variance_ratio_, rows @ fitted.components_.T)
    return reference, variances


@dataclass(frozen=True)
class Case:
    rows: np.ndarray
    found: Found
    references: dict[str, Reference]
    variances: np.ndarray


def defined_axes(variances: np.ndarray) -> Iterator[tuple[slice, float]]:
    """Yield each group of axes with equal variances and the error allowed for it."""
    largest, start = variances[0], 0
    for stop in range(1, len(variances) + 1):
        if stop < len(variances) and variances[stop - 1] - variances[stop] <= 1e-9 * variances[stop - 1]:
            continue
        before = variances[start - 1] - variances[start] if start else np.inf
        after = variances[stop - 1] - (variances[stop] if stop < len(variances) else -np.inf)
        error = ERROR * largest / min(before, after)
        if variances[start] > COMPARED * largest:
            yield slice(start, stop), error
        start = stop


def rotation(found: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the orthogonal matrix that best maps the reference's axes to ours; for a single axis, a sign."""
    left, _, right = np.linalg.svd(found @ reference.T)
    return left @ right


def check_components_and_scores(case: Case) -> None:
    components = case.found.model["components_"]
    for reference, (axes, error) in itertools.product(case.references.values(), defined_axes(case.variances)):
        assert error < 0.01
        turn = rotation(components[axes], reference.components[axes])
        np.testing.assert_allclose(components[axes], turn @ reference.components[axes], rtol=0, atol=error)
        length = np.linalg.norm(case.rows, axis=1).max()
        projected = reference.projected[:, axes] @ turn.T
        np.testing.assert_allclose(case.found.scores[:, axes], projected, rtol=0, atol=2 * error * length)


def check_ratios(case: Case) -> None:
    for reference in case.references.values():
        ratios = reference.ratios
        for found in (case.found.summary["explained_variance_ratio"], case.found.model["explained_variance_ratio_"]):
            np.testing.assert_allclose(found[: len(ratios)], ratios, rtol=0, atol=ERROR)
            np.testing.assert_allclose(found[len(ratios) :], 0, rtol=0, atol=ERROR)


def check_variances_and_mean(case: Case) -> None:
    model = case.found.model
    np.testing.assert_allclose(model["eigenvalues"], case.variances, rtol=0, atol=ERROR * case.variances[0])
    rounding = len(case.rows) * EPS * np.abs(case.rows).max()
    np.testing.assert_allclose(model["mean_"], case.rows.mean(axis=0), rtol=0, atol=rounding)
    assert (model["n_samples_"], model["n_components_"]) == case.rows.shape


def check_properties_of_every_pca(case: Case) -> None:
    model = case.found.model
    eigenvalues, components = model["eigenvalues"], model["components_"]
    assert (eigenvalues >= 0).all()
    assert (np.diff(model["eigenvalue_ratios"]) <= 0).all()
    assert model["eigenvalue_ratios"].sum() == pytest.approx(1, abs=1e-14)
    np.testing.assert_allclose(components @ components.T, np.eye(len(components)), rtol=0, atol=1e-12)
    rank = np.linalg.matrix_rank(case.rows - case.rows.mean(axis=0))
    warned = [warning for warning in case.found.summary["warnings"] if "explain nothing" in warning]
    assert len(warned) == (rank < len(components))
    assert all(f"vary along {rank} axes" in warning for warning in warned)


@pytest.mark.parametrize("name", GIVEN)
def test_the_pca_equals_scikit_learn_and_spark_ml(spark: SparkSession, tmp_path: Path, name: str) -> None:
    """One run of the job that keeps all components, compared with one fit of each reference."""
    rows = store(tmp_path, GIVEN[name])
    d = rows.shape[1]
    reference, variances = scikit_learn(rows)
    fitted = fit_spark_ml(spark, rows, d)
    spark_ml = Reference(fitted.components, fitted.explained_variance_ratio, fitted.scores)
    case = Case(rows, run(tmp_path, d), {"scikit-learn": reference, "Spark ML": spark_ml}, variances)
    check_components_and_scores(case)
    check_ratios(case)
    check_variances_and_mean(case)
    check_properties_of_every_pca(case)


@pytest.mark.parametrize("scores", ["centred", "whitened"])
@pytest.mark.parametrize("name", ["float32", "fewer rows than features", "mean much larger than deviation"])
def test_centred_and_whitened_scores_are_those_of_scikit_learn(tmp_path: Path, name: str, scores: str) -> None:
    rows = store(tmp_path, GIVEN[name])
    k = min(len(rows) - 1, rows.shape[1])
    found = run(tmp_path, k, scores)
    reference = PCA(k, svd_solver="full", whiten=scores == "whitened").fit(rows)
    signs = np.sign((found.model["components_"] * reference.components_).sum(axis=1))
    # Both means are rounded, and the least variance magnifies that when it is whitened.
    rounding = 1e-10 + len(rows) * EPS * np.abs(rows).max()
    unit = np.sqrt(reference.explained_variance_) if scores == "whitened" else 1
    np.testing.assert_allclose(found.scores * unit, reference.transform(rows) * signs * unit, rtol=0, atol=rounding)
    assert found.summary["scores"] == scores


def test_whitened_scores_of_components_without_variance_are_zeros(tmp_path: Path) -> None:
    rows = store(tmp_path, GIVEN["few rows duplicated"])
    found = run(tmp_path, 8, "whitened")
    assert np.isfinite(found.scores).all()
    np.testing.assert_allclose(np.cov(found.scores[:, :4].T), np.eye(4), atol=1e-9)
    assert not found.scores[:, 4:].any()
    assert np.linalg.matrix_rank(rows - rows.mean(axis=0)) == 4


@pytest.mark.parametrize("scores", ["projected", "centred", "whitened"])
def test_one_image_is_its_own_mean(tmp_path: Path, scores: str) -> None:
    rows = store(tmp_path, Given(realistic(1, 5)))
    found = run(tmp_path, 3, scores)
    components = found.model["components_"]
    np.testing.assert_array_equal(found.model["mean_"], rows[0])
    np.testing.assert_array_equal(found.model["eigenvalues"], np.zeros(5))
    np.testing.assert_allclose(components @ components.T, np.eye(3), atol=1e-15)
    expected = rows @ components.T if scores == "projected" else np.zeros((1, 3))
    np.testing.assert_allclose(found.scores, expected, rtol=1e-15)
    (warning,) = found.summary["warnings"]
    assert "a single image; kept 3 components, which explain 0 % of it" in warning


def same(found: Found, reference: PCA, rows: np.ndarray) -> None:
    """Assert that all components, variances and scores equal scikit-learn's up to sign."""
    signs = np.sign((found.model["components_"] * reference.components_).sum(axis=1))
    np.testing.assert_allclose(found.model["components_"], signs[:, None] * reference.components_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.model["explained_variance_"], reference.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(found.scores, rows @ reference.components_.T * signs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("files", [1, 2, 7, 28])
def test_the_number_of_partitions_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    rows = store(tmp_path, Given(realistic(28, 5)), rows_a_file=28 // files)
    monkeypatch.setattr(parts, "PART_ROWS", 1)
    monkeypatch.setattr(parts, "MAX_PARTS", 1000)
    same(run(tmp_path, 5), PCA(svd_solver="full").fit(rows), rows)
    assert len(list((tmp_path / "pca" / "scores").glob("*.parquet"))) == files


def in_blocks_of(rows: int, run_in_workers: Callable[..., list[Any]], seen: list[int]) -> Callable[..., list[Any]]:
    """Return :func:`workers.run` with blocks of ``rows`` rows in the workers; append each block's rows to ``seen``.

    Patching the constant in this process would not reach the workers: module functions are pickled by name. The nested
    function is pickled with its code.
    """

    def run_with(spark: Any, items: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
        def changed(item: Any) -> tuple[Any, list[int]]:
            before = blocks.BLOCK_ROWS, blocks.refill.__defaults__, blocks.read
            sizes = []

            def read(*args: Any) -> Iterator[Any]:
                for block in before[2](*args):
                    sizes.append(len(block.vectors))
                    yield block

            blocks.BLOCK_ROWS, blocks.refill.__defaults__, blocks.read = rows, (rows,), read
            try:
                return work(item), sizes
            finally:
                blocks.BLOCK_ROWS, blocks.refill.__defaults__, blocks.read = before

        outcomes = run_in_workers(spark, items, changed)
        seen.extend(size for _, sizes in outcomes for size in sizes)
        return [result for result, _ in outcomes]

    return run_with


@pytest.mark.parametrize(
    ("rows_a_batch", "sizes"), [(1, {1}), (7, {7, 600 % 7}), (512, {512, 600 - 512}), (10_000, {600})]
)
def test_the_size_of_arrow_batches_makes_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_a_batch: int, sizes: set[int]
) -> None:
    rows = store(tmp_path, Given(realistic(600, 5)), rows_a_file=600)
    seen: list[int] = []
    monkeypatch.setattr(workers, "run", in_blocks_of(rows_a_batch, workers.run, seen))
    same(run(tmp_path, 5), PCA(svd_solver="full").fit(rows), rows)
    assert (set(seen), sum(seen)) == (sizes, 2 * 600)  # one pass for the moments and one for the scores


def covariance_in_longdouble(rows: np.ndarray) -> np.ndarray:
    """Return the covariance in two passes with a 64-bit mantissa, as the reference for float64."""
    exact = rows.astype(np.longdouble)
    deviations = exact - exact.mean(axis=0)
    return deviations.T @ deviations / (len(rows) - 1)


@pytest.mark.parametrize("mean", [1e3, 1e6])
def test_a_mean_that_is_large_beside_the_deviations_costs_no_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mean: float
) -> None:
    assert np.finfo(np.longdouble).eps < 1e-18, "this machine's long double is a double: no reference"
    # Half of the features follow from the others, so that there are variances of zero, but for rounding.
    free = random(400, 4)
    vectors = np.column_stack([free, free @ np.random.default_rng(1).normal(size=(4, 4))]) + mean
    rows = store(tmp_path, Given(vectors, DOUBLES), rows_a_file=57)
    monkeypatch.setattr(parts, "PART_ROWS", 1)
    monkeypatch.setattr(workers, "run", in_blocks_of(16, workers.run, []))
    model = run(tmp_path, 8).model
    exact = covariance_in_longdouble(rows)
    scale = float(np.trace(exact))

    ours = model["components_"].T @ (model["eigenvalues"][:, None] * model["components_"])
    our_error = float(np.abs(ours - exact).max()) / scale
    average = rows.mean(axis=0)
    textbook = (rows.T @ rows - len(rows) * np.outer(average, average)) / (len(rows) - 1)
    textbook_error = float(np.abs(textbook - exact).max()) / scale
    # Ours grows with the mean, by the rounding of the blocks' means; the textbook's with its square.
    assert our_error < 0.1 * EPS * mean
    assert textbook_error > 0.1 * EPS * mean**2
    assert textbook_error > 1000 * our_error
    assert (model["eigenvalues"] >= 0).all()
    assert np.linalg.eigvalsh(textbook)[0] < -EPS * scale
    np.testing.assert_allclose(
        model["eigenvalues"], np.linalg.eigvalsh(exact.astype(np.float64))[::-1], rtol=0, atol=0.1 * EPS * mean * scale
    )
