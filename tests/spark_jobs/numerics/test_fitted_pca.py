from __future__ import annotations

import io
import itertools
import json
import pickle
import time
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from spark_jobs.numerics import decomposition, moments
from spark_jobs.numerics.fitted_pca import FittedPca, orthonormality_error
from tests.spark_jobs.feature_runs import realistic


def fit(rows: np.ndarray, n_components: int, scores: str = "projected", block_rows: int = 10_000) -> FittedPca:
    rows = rows.astype(np.float64)
    cut = (rows[start : start + block_rows] for start in range(0, len(rows), block_rows))
    return decomposition.fit(moments.accumulate(cut, rows.shape[1]), n_components=n_components, scores=scores)


def scikit_learn(rows: np.ndarray, k: int, whiten: bool = False) -> PCA:
    return PCA(k, svd_solver="full", whiten=whiten).fit(rows.astype(np.float64))


def aligned(reference: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The reference's scores with the signs of ours."""
    return reference * np.sign((reference * found).sum(axis=0))


def test_centred_and_whitened_scores_equal_those_of_scikit_learn() -> None:
    for dtype, scores in itertools.product((np.float16, np.float32, np.float64), ("centred", "whitened")):
        rows, new = realistic(80, 9).astype(dtype), realistic(6, 9, seed=3).astype(dtype)
        reference = scikit_learn(rows, 5, whiten=scores == "whitened").transform(new.astype(np.float64))
        found = fit(rows, 5, scores).transform(new)
        assert found.dtype == np.float64
        case = f"{dtype.__name__}, {scores}"
        np.testing.assert_allclose(found, aligned(reference, found), rtol=1e-9, atol=1e-10, err_msg=case)


def test_projected_scores_are_the_default_and_not_centred() -> None:
    model = FittedPca(2, np.array([[0.6, 0.8], [0.8, -0.6]]), np.array([7.0, 9.0]), np.ones(2), np.full(2, 0.5))
    found = model.transform(np.array([[1, 2], [3, 4]], dtype=np.float32))
    np.testing.assert_allclose(found, [[2.2, -0.4], [5, 0]], atol=1e-15)


def test_whitened_scores_have_variance_1_and_no_covariance() -> None:
    rows = realistic(300, 12)
    model = fit(rows, 12, "whitened")
    np.testing.assert_allclose(np.cov(model.transform(rows).T), np.eye(12), atol=1e-9)


def test_centring_is_exact_where_the_mean_is_large() -> None:
    # Features in steps of 2^-10 about 2^30, over which the mean is exact.
    deviations = np.round(realistic(64, 8).astype(np.float64) * 1024) / 1024
    rows = np.concatenate([deviations, -deviations]) + 2.0**30
    model = fit(rows, 8, "centred")
    exact = (rows - 2.0**30) @ model.components.T
    np.testing.assert_allclose(model.transform(rows), exact, atol=1e-12)
    # The difference of two large numbers, which the model avoids, is not exact.
    assert np.abs(rows @ model.components.T - model.mean @ model.components.T - exact).max() > 1e-8


@pytest.mark.parametrize(
    ("rows", "rank"),
    [
        (realistic(40, 6), 6),
        (realistic(5, 6), 4),
        (realistic(1, 6), 0),
        (np.repeat(realistic(3, 6), 50, axis=0), 2),
        (realistic(40, 6) * [1, 1, 0, 1, 1, 1], 5),
        (np.repeat(realistic(40, 3), 2, axis=1), 3),
        (np.ones((7, 6)), 0),
        (realistic(400, 6) * np.geomspace(1e-2, 1e4, 6), 6),
    ],
    ids=["full", "5 rows", "1 row", "3 rows repeated", "a constant", "columns twice", "all alike", "scales"],
)
def test_the_rank_is_that_of_the_data_and_nothing_whitens_to_noise(rows: np.ndarray, rank: int) -> None:
    model = fit(rows, 6, "whitened", block_rows=16)
    assert model.rank == rank
    found = model.transform(rows)
    assert not found[:, rank:].any()
    np.testing.assert_allclose(np.square(found[:, :rank]).sum(axis=0), len(rows) - 1, rtol=1e-3)
    assert np.isfinite(model.transform(np.full((1, 6), 1e9))).all()
    assert len(model.warnings) == (rank < 6)
    assert all("whitened scores are 0" in warning for warning in model.warnings)


def test_n_vectors_vary_along_at_most_n_minus_1_axes() -> None:
    assert FittedPca(3, np.eye(4), np.zeros(4), np.array([4, 2, 1e-3, 1e-4]), np.zeros(4)).rank == 2


def test_a_large_mean_does_not_hide_that_columns_depend_on_each_other() -> None:
    random = np.random.default_rng(5)
    # Integers keep the dependence exact for every mean.
    rows = random.integers(-500, 500, size=(3000, 4)) @ random.integers(-3, 4, size=(4, 20))
    for ratio in (0, 1e3, 1e6, 1e8):
        assert fit(rows + 1000.0 * ratio, 20, block_rows=256).rank == 4, ratio


def test_the_error_of_axes_that_are_not_orthonormal() -> None:
    for axes, error in (
        ([[0.6, 0.8], [0.8, -0.6]], 0),
        ([[1, 0], [-0.01, 1]], 0.01),
        ([[1, 0], [0.01, 1]], 0.01),
        ([[1.01, 0]], 0.0201),
    ):
        assert orthonormality_error(np.array(axes, dtype=np.float64)) == pytest.approx(error, abs=1e-15), axes


@pytest.mark.parametrize("scores", ["projected", "centred", "whitened"])
@pytest.mark.parametrize(("n", "d", "k"), [(60, 8, 3), (60, 8, 8), (5, 8, 2), (5, 8, 4)])
def test_the_model_file_loads_into_a_fitted_pca_of_scikit_learn(scores: str, n: int, d: int, k: int) -> None:
    rows = realistic(n, d).astype(np.float64)
    loaded = PCA()
    file = np.load(io.BytesIO(fit(rows, k, scores).to_npz()), allow_pickle=False)
    vars(loaded).update({name: array if array.ndim else array.item() for name, array in file.items()})
    assert loaded.whiten is (scores == "whitened")
    assert json.loads(json.dumps(loaded.get_params()["whiten"])) is loaded.whiten
    assert (file["whiten"].dtype, file["whiten"].shape) == (np.bool_, ())
    reference = scikit_learn(rows, k, whiten=scores == "whitened")
    signs = np.sign((loaded.components_ * reference.components_).sum(axis=1))
    attributes = {name for name in vars(reference) if name.endswith("_") and not name.startswith("_")}
    assert attributes == {name for name in vars(loaded) if name.endswith("_") and not name.startswith("_")}
    for name in attributes - {"components_"}:
        np.testing.assert_allclose(getattr(loaded, name), getattr(reference, name), rtol=1e-8, atol=1e-13, err_msg=name)
    np.testing.assert_allclose(loaded.transform(rows) * signs, reference.transform(rows), atol=1e-8)
    back = reference.transform(rows)
    np.testing.assert_allclose(loaded.inverse_transform(back * signs), reference.inverse_transform(back), atol=1e-8)
    np.testing.assert_allclose(loaded.get_covariance(), reference.get_covariance(), atol=1e-10)
    assert loaded.get_feature_names_out().tolist() == reference.get_feature_names_out().tolist()
    with pytest.raises(ValueError, match=f"expecting {d} features"):
        loaded.transform(rows[:, :-1])


def test_a_model_that_is_saved_and_loaded_is_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    equal_eigenvalues = fit(np.zeros((2, 3)), 2)
    one_value = fit(np.zeros((1, 1)), 1, "centred")
    for model in (fit(realistic(30, 6), 2), fit(realistic(3, 6), 5, "whitened"), equal_eigenvalues, one_value):
        data = model.to_npz()
        loaded = FittedPca.from_npz(data)
        for name in (item.name for item in fields(FittedPca)):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name))
        with monkeypatch.context() as patch:
            later = time.localtime(time.time() + 400 * 86400)
            patch.setattr(time, "localtime", lambda seconds=None, later=later: later)
            assert loaded.to_npz() == model.to_npz() == data


MODEL = fit(realistic(30, 4), 2)
FILE = MODEL.to_npz()


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def changed(**arrays: object) -> bytes:
    """The model's file with other arrays, or without those that are None."""
    with np.load(io.BytesIO(FILE)) as file:
        whole = {name: file[name] for name in file.files} | arrays
    return npz(**{name: array for name, array in whole.items() if array is not None})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes that are not an intact .npz"),
        (b"components,mean\n1,2\n", "20 bytes that are not an intact .npz"),
        (pickle.dumps({"components_": 1}), "not an intact .npz"),
        (FILE[:-1], "not an intact .npz"),
        (FILE[: len(FILE) // 2], "not an intact .npz"),
        (npz(), "components_, mean_, eigenvalues, eigenvalue_ratios, n_samples_, scores, warnings missing among no"),
        (npz(components=np.eye(2), mean=np.zeros(2)), "n_samples_, scores, warnings missing among components, mean"),
        (changed(mean_=None), "mean_ missing among components_, "),
        (changed(scores=None), "scores missing"),
        (changed(components_=np.eye(3)[0]), r"components_ of shape \(3,\), not \(k, d\) with 1"),
        (changed(components_=np.eye(5)[:, :4]), r"components_ of shape \(5, 4\)"),
        (changed(components_=np.empty((0, 4))), r"components_ of shape \(0, 4\)"),
        (changed(components_=MODEL.components.astype(np.float32)), "components_ is float32"),
        (changed(components_=MODEL.components * 1.001), "components_ is not orthonormal: off by 2.001e-03"),
        (changed(components_=MODEL.components[[0, 0]]), "components_ is not orthonormal"),
        (changed(mean_=np.zeros(3)), r"mean_ is float64 of shape \(3,\), not finite float64 of shape \(4,\)"),
        (changed(mean_=np.array([0, 0, np.nan, 0])), "mean_ is float64 .* not finite"),
        (changed(mean_=np.array(["a"] * 4)), "mean_ is <U1"),
        (changed(eigenvalues=MODEL.eigenvalues[::-1]), "eigenvalues is not descending"),
        (changed(eigenvalues=MODEL.eigenvalues - 1), "eigenvalues is not descending to 0"),
        (changed(n_samples_=np.int64(0)), "n_samples_ is 0"),
        (changed(n_samples_=np.float64(30)), "n_samples_ is 30.0"),
        (changed(scores=np.str_("centered")), "scores is centered, not one of projected, centred, whitened"),
        (changed(warnings=np.zeros(2)), "warnings is float64, not text"),
    ],
)
def test_bytes_that_are_no_model_are_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"not a fitted PCA: .*{message}.*; expected the model.npz of a pca job"):
        FittedPca.from_npz(data)


def test_an_array_alone_is_no_model() -> None:
    file = io.BytesIO()
    np.save(file, np.eye(3))
    with pytest.raises(ValueError, match="not a fitted PCA"):
        FittedPca.from_npz(file.getvalue())


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_damaged_byte_is_refused_or_makes_no_difference(position: int, difference: int) -> None:
    damaged = bytearray(FILE)
    damaged[position] ^= difference
    try:
        loaded = FittedPca.from_npz(bytes(damaged))
    except ValueError:
        return
    assert loaded.to_npz() == FILE


def test_a_pickled_model_keeps_its_kind_of_scores() -> None:
    model = replace(MODEL, scores="centred")
    sent = pickle.loads(pickle.dumps(model))
    rows = realistic(5, 4)
    np.testing.assert_array_equal(sent.transform(rows), model.transform(rows))
    assert not np.array_equal(model.transform(rows), MODEL.transform(rows))
