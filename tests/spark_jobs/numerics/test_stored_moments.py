"""Moments beside the features: they are the features' own, or they are not used."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from spark_jobs.lake.parts import FeatureFile
from spark_jobs.numerics import stored_moments
from spark_jobs.numerics.stored_moments import MismatchError, StoredMoments
from tests.spark_jobs.feature_runs import feature_file, feature_files, moments_file, realistic, rewrite, write_run

VECTORS = realistic(30, 4)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two files of features, each with its moments."""
    write_run(tmp_path, VECTORS, rows_a_file=20, with_moments=True)
    return tmp_path


def files_of(run: Path) -> list[FeatureFile]:
    return feature_files(f"file://{run}")


def read(run: Path, number: int = 0, dimensions: int = 4) -> StoredMoments:
    return stored_moments.read(f"file://{run}/segments", files_of(run)[number], dimensions)


def change_arrays(file: Path, **changes: object) -> None:
    with np.load(file) as arrays:
        changed = {name: arrays[name] for name in arrays.files} | changes
    np.savez(file, **{name: value for name, value in changed.items() if value is not None})


def test_they_are_the_moments_of_each_file(run: Path) -> None:
    for number, rows in enumerate((VECTORS[:20], VECTORS[20:])):
        found = read(run, number).moments
        exact = rows.astype(np.longdouble)
        centred = exact - exact.mean(axis=0)
        assert found.n == len(rows)
        np.testing.assert_allclose(found.mean, exact.mean(axis=0).astype(float), rtol=1e-14)
        np.testing.assert_allclose(found.m2, (centred.T @ centred).astype(float), rtol=1e-12, atol=1e-12)


def test_numpy_alone_reads_them(run: Path) -> None:
    with np.load(moments_file(run, 0)) as file:
        arrays = {name: file[name] for name in file.files}
    assert (int(arrays["n"]), arrays["rows"].tolist(), len(arrays["digests"])) == (20, [20], 1)
    covariance = np.zeros((4, 4))
    covariance[np.triu_indices(4)] = arrays["m2_upper"] / 19
    np.testing.assert_allclose(np.triu(np.cov(VECTORS[:20].astype(float).T)), covariance, rtol=1e-12, atol=1e-14)


def test_they_come_back_equal_to_the_bit_and_have_the_same_bytes(run: Path) -> None:
    stored = read(run)
    again = StoredMoments.from_npz(stored.to_npz())
    assert (again.rows, again.digests, again.moments.n) == (stored.rows, stored.digests, stored.moments.n)
    np.testing.assert_array_equal(again.moments.m2, stored.moments.m2)
    np.testing.assert_array_equal(again.moments.mean, stored.moments.mean)
    np.testing.assert_array_equal(again.moments.mean_rest, stored.moments.mean_rest)
    assert again.to_npz() == stored.to_npz()


def test_features_without_a_digest_have_no_moments(run: Path) -> None:
    file = feature_file(run, 0)
    pq.write_table(pq.read_table(file), file)
    with pytest.raises(MismatchError, match="its footer has no digest"):
        read(run)
    assert read(run, 1).moments.n == 10


def test_missing_moments_are_reported(run: Path) -> None:
    moments_file(run, 1).unlink()
    with pytest.raises(MismatchError, match="it has no stored moments"):
        read(run, 1)


def test_another_files_moments_are_not_used(run: Path) -> None:
    moments_file(run, 0).replace(moments_file(run, 1))
    with pytest.raises(MismatchError, match=r"row groups of 1 x up to 20 rows, it has 1 x up to 10"):
        read(run, 1)


def test_as_many_rows_of_other_vectors_are_not_used(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_run(other, VECTORS + np.float32(1e-3), rows_a_file=20, with_moments=True)
    moments_file(other, 0).replace(moments_file(run, 0))
    with pytest.raises(MismatchError, match="for vectors with another digest"):
        read(run)


def test_rows_that_were_dropped_with_the_digest_kept_are_noticed(run: Path) -> None:
    rewrite(feature_file(run, 0), lambda table: table.slice(0, 19))
    with pytest.raises(MismatchError, match=r"row groups of 1 x up to 20 rows, it has 1 x up to 19"):
        read(run)


def test_other_dimensions_are_not_used(run: Path) -> None:
    with pytest.raises(MismatchError, match="have 4 dimensions, not 5"):
        read(run, dimensions=5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mean": None}, "not an intact file of moments"),
        ({"m2_upper": np.zeros(9)}, r"float64 of shape \(9,\) and means of \(4,\) and \(4,\), not a triangle"),
        ({"m2_upper": np.zeros(10, np.float32)}, r"float32 of shape \(10,\)"),
        ({"mean_rest": np.zeros(3)}, r"means of \(4,\) and \(3,\)"),
        ({"m2_upper": np.full(10, np.nan)}, "not finite"),
        ({"mean": np.full(4, np.inf)}, "not finite"),
        ({"n": np.int64(21)}, "moments of 21 vectors, for row groups of 20 rows"),
        ({"digests": np.array(["a", "b"])}, "for row groups of 20 rows"),
    ],
)
def test_wrong_ones_are_not_used(run: Path, changes: dict[str, object], reason: str) -> None:
    change_arrays(moments_file(run, 0), **changes)
    with pytest.raises(MismatchError, match=f"its stored moments are .*{reason}"):
        read(run)


def test_damaged_ones_are_not_used(run: Path) -> None:
    file = moments_file(run, 0)
    data = file.read_bytes()
    random = np.random.default_rng(11)
    damaged = [b"", data[:100], data[:-1], b"not moments", io.BytesIO(data).read()[::-1]]
    for place in random.integers(0, len(data), 40):  # a byte changed somewhere: zip's checksums tell
        changed = bytearray(data)
        changed[place] ^= 0x5A
        damaged.append(bytes(changed))
    expected = read(run)
    for each in damaged:
        file.write_bytes(each)
        try:
            found = read(run)
        except MismatchError:
            continue
        np.testing.assert_array_equal(found.moments.m2, expected.moments.m2)  # a byte of zip's own bookkeeping
        np.testing.assert_array_equal(found.moments.mean, expected.moments.mean)
