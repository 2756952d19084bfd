"""Planted faults: swapped labels, copies and photos unlike all others, against scikit-learn's exact neighbours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from spark_jobs.args import PcaArgs
from spark_jobs.insights import collection, comparison, reference, thumbnails
from spark_jobs.lake import parts
from spark_jobs.pca import job
from tests.spark_jobs.feature_runs import path_of, write_run

PHOTOS, LABELS, DIMENSIONS = 600, 6, 24
SWAPPED = range(0, 600, 61)
COPIES = {601: 7, 602: 8, 603: 8}
"""Rows that are equal to other rows."""
NEAR = 604
"""A row that is nearly equal to row 9."""
ODD = 605
"""A row that is unlike all others."""


def planted() -> tuple[NDArray[np.float32], list[str]]:
    random = np.random.default_rng(17)
    centres = random.normal(size=(LABELS, DIMENSIONS)) * 4
    true = np.arange(PHOTOS) % LABELS
    vectors = centres[true] + random.normal(size=(PHOTOS, DIMENSIONS))
    labels = [f"label {(label + 1) % LABELS if row in SWAPPED else label}" for row, label in enumerate(true)]
    extra = [vectors[3], *(vectors[source] for source in COPIES.values()), vectors[9] + 0.002, np.full(DIMENSIONS, 9.0)]
    sources = [3, *COPIES.values(), 9, 10]
    return np.vstack([vectors, *extra]).astype(np.float32), [*labels, *(labels[source] for source in sources)]


@pytest.fixture
def small_parts(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 1)  # every row group becomes a part


def run(folder: Path, vectors: Any, labels: Any, **arguments: Any) -> dict[str, Any]:
    uri = write_run(folder, vectors, labels=labels, rows_a_file=100)
    return dict(job.run(PcaArgs(run=uri, variance_target=None, n_components=12, **arguments)))


def csv_of(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "pca" / "insights" / f"{name}.csv", keep_default_na=False, dtype={"label": str})


def rows_of(paths: pd.Series) -> set[int]:
    return {int(path.rpartition("/")[2].partition("_")[0]) for path in paths}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("kind", ["projected", "whitened"])
def test_planted_faults_are_found_as_exact_neighbours_find_them(tmp_path: Path, kind: str) -> None:
    vectors, labels = planted()
    summary = run(tmp_path, vectors, labels, scores=kind)
    assert summary["warnings"] == []
    with np.load(tmp_path / "pca" / "model.npz") as model:
        points = (vectors - model["mean_"]) @ model["components_"].T
        deviation = np.sqrt(model["eigenvalues"].sum())
    distances, found = NearestNeighbors(n_neighbors=6).fit(points).kneighbors(points)

    names = np.array(labels)
    own = [np.flatnonzero(names[[n for n in near if n != row][:5]] == names[row]) for row, near in enumerate(found)]
    suspects = csv_of(tmp_path, "unlike_label")
    assert rows_of(suspects["path"]) == {row for row, votes in enumerate(own) if len(votes) == 0}
    assert rows_of(suspects["path"]) == set(SWAPPED)
    true = {path_of(row): f"label {row % LABELS}" for row in SWAPPED}
    assert suspects["looks_like"].tolist() == [true[path] for path in suspects["path"]]
    nearest = {path_of(row): path_of(next(n for n in near if n != row)) for row, near in enumerate(found)}
    assert suspects["nearest_path"].tolist() == [nearest[path] for path in suspects["path"]]

    outliers = csv_of(tmp_path, "outliers")
    fifth = pd.Series(distances[:, 5], [path_of(row) for row in range(len(vectors))])
    assert outliers["path"][0] == path_of(ODD)
    assert outliers["beyond_fence"].tolist()[:2] == [True, False]
    expected = fifth[outliers["path"]] / np.median(distances[:, 5])
    np.testing.assert_allclose(outliers["times_usual_distance"], expected, rtol=1e-3, atol=1e-3)

    groups = csv_of(tmp_path, "duplicates").groupby("group")
    radius, close = NearestNeighbors(radius=0.05 * deviation).fit(points).radius_neighbors(points)
    assert {frozenset(rows_of(group["path"])) for _, group in groups} == {
        frozenset(near) for near in map(frozenset, close) if len(near) > 1
    }
    kinds = {frozenset(rows_of(group["path"])): set(group["kind"]) for _, group in groups}
    assert kinds == {
        frozenset({3, 600}): {"equal_features"}, frozenset({7, 601}): {"equal_features"},
        frozenset({8, 602, 603}): {"equal_features"}, frozenset({9, NEAR}): {"near_features"},
    }  # fmt: skip
    assert len(radius) == len(vectors)

    record = json.loads((tmp_path / "pca" / "insights" / "insights.json").read_text())
    numbers = {photo["path"]: number for number, photo in enumerate(record["photos"])}
    assert len(record["map"]["photos"]) == len(vectors)
    shown = [numbers[path_of(row)] for row in range(len(vectors))]
    order = [record["map"]["photos"].index(number) for number in shown]
    np.testing.assert_allclose(np.array(record["map"]["scores"]).T[order], points, atol=2e-3)
    for asked in record["neighbours"]:
        row = shown.index(asked["photo"])
        away = np.linalg.norm(points[[shown.index(near) for near in asked["nearest"]]] - points[row], axis=1)
        np.testing.assert_allclose(away, distances[row][1:], atol=1e-3)
        np.testing.assert_allclose(np.array(asked["distances"]) * deviation, distances[row][1:], atol=2e-3)


@pytest.mark.usefixtures("small_parts")
def test_a_smaller_reference_is_balanced_and_still_finds_the_planted_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "REFERENCE_PHOTOS", 90)
    monkeypatch.setattr(reference.balance, "__defaults__", (90,))
    monkeypatch.setattr(collection, "MAP_PHOTOS", 50)
    run(tmp_path, *planted())
    record = json.loads((tmp_path / "pca" / "insights" / "insights.json").read_text())
    assert record["reference"] == {"photos": 90, "labels": LABELS}
    assert len(record["map"]["photos"]) == 50
    suspects = rows_of(csv_of(tmp_path, "unlike_label")["path"])
    assert suspects <= set(SWAPPED)
    assert len(suspects) >= 9  # of one, a neighbour in the reference is swapped too
    assert record["unlike"]["judged"] == PHOTOS + 6


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("module", "name", "missing"),
    [
        (collection.Collector, "_add", "no map and no photos"),
        (collection.Collector, "_result", "no map and no photos"),
        (comparison, "compare", "no map and no photos: ZeroDivisionError"),
        (thumbnails, "find_sizes", "no pictures of photos: ZeroDivisionError"),
    ],
)
def test_a_failure_is_a_warning_and_everything_else_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, missing: str
) -> None:
    vectors, labels = (rows[:150] for rows in planted())
    expected = run(tmp_path / "whole", vectors, labels)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(module, name, fail)
    summary = run(tmp_path / "failed", vectors, labels)
    assert len(summary["warnings"]) == 1
    assert missing in summary["warnings"][0]
    assert summary["quality"] == expected["quality"]
    for file in ("pca_features.csv", "model.npz", "scores/part-00000.parquet"):
        assert (tmp_path / "failed" / "pca" / file).read_bytes() == (tmp_path / "whole" / "pca" / file).read_bytes()


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("count", [1, 2, 4])
def test_very_few_photos(tmp_path: Path, count: int) -> None:
    vectors, labels = planted()
    summary = run(tmp_path, vectors[:count], labels[:count])
    assert not [warning for warning in summary["warnings"] if "report" in warning]
    record = json.loads((tmp_path / "pca" / "insights" / "insights.json").read_text())
    assert (len(record["photos"]), record["unlike"]["judged"]) == (count, 0)
