"""The DAG on three days: photos arrive, change and go, and then nothing happens."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from include.lake.layout import Lake
from include.reports.history import read_history
from local.images.sample import draw_fruit
from tests.end_to_end.conftest import Bench, Outcome, snapshot

pytestmark = pytest.mark.slow

FIRST_IMAGES = 25


@dataclass
class Day:
    """A day's run, and the lake after it."""

    outcome: Outcome
    current: dict[str, Any]
    features: pd.DataFrame
    files: dict[str, str]


def read_day(lake: Path, outcome: Outcome) -> Day:
    assert outcome.state.state == "success", outcome.log[-4000:]
    current = json.loads((lake / "current.json").read_text())
    features = pd.concat(pd.read_parquet(lake / name) for name in current["features"])
    return Day(outcome, current, features.set_index("path"), snapshot(lake))


@pytest.fixture(scope="module")
def lake(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bench.lake(tmp_path_factory.mktemp("days") / "lake")


@pytest.fixture(scope="module")
def days(bench: Bench, lake: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Day]:
    """Day 1: 25 photos. Day 2: two are new, one has other pixels, two are gone, one is no image. Day 3: nothing.

    From day 2 on, the basis is kept.
    """
    keep: Any = {"conf": {"basis": "keep"}, "environ": {"FRUITS_DRIFT_THRESHOLD": "100"}}
    folder = tmp_path_factory.mktemp("runs")
    found = [read_day(lake, bench.run(lake, folder / "1"))]
    data = lake / "data"
    for number in (20, 21):
        draw_fruit("Kiwi", number).save(data / "Kiwi 100%" / f"{number}_100.jpg", quality=90)
    Image.new("RGB", (50, 50), "red").save(data / "Banana" / "0_100.jpg", quality=90)
    (data / "Banana" / "1_100.jpg").unlink()
    shutil.rmtree(data / "Lime #1+2")
    (data / "Kiwi 100%" / "no image.jpg").write_text("text")
    found.append(read_day(lake, bench.run(lake, folder / "2", **keep)))
    found.append(read_day(lake, bench.run(lake, folder / "3", **keep)))
    return found


def test_the_second_day_computes_only_what_is_new_or_changed(days: list[Day], lake: Path) -> None:
    history = read_history(Lake(f"file://{lake}"), None)
    counts = [{name: row[name] for name in ("new", "changed", "gone", "featurized", "rejected")} for row in history]  # type: ignore[literal-required]
    assert counts == [
        {"new": 25, "changed": 0, "gone": 0, "featurized": 25, "rejected": 0},
        {"new": 3, "changed": 1, "gone": 7, "featurized": 4, "rejected": 1},
        {"new": 0, "changed": 0, "gone": 0, "featurized": 0, "rejected": 1},
    ]
    assert [row["images"] for row in history] == [25, 20, 20]


def test_the_state_has_exactly_the_photos_and_the_kept_ones_keep_their_features(days: list[Day], lake: Path) -> None:
    first, second, _ = days
    files = {f"file://{path}" for path in (lake / "data").glob("*/*") if path.name != "no image.jpg"}
    assert set(second.features.index) == files
    assert second.features.index.is_unique
    changed = f"file://{lake}/data/Banana/0_100.jpg"
    for path in files & set(first.features.index) - {changed}:
        np.testing.assert_array_equal(first.features.at[path, "features"], second.features.at[path, "features"])
    assert not np.array_equal(first.features.at[changed, "features"], second.features.at[changed, "features"])


def scores_of(day: Day, lake: Path) -> np.ndarray[Any, Any]:
    """The scores of a day, in the order of its features."""
    scores = pd.read_parquet(lake / day.current["scores"]).set_index("path").loc[day.features.index]
    return np.stack(scores["components"])


def test_the_fit_of_each_day_is_that_from_scratch(days: list[Day], lake: Path) -> None:
    """On day 2 it serves to measure the drift only."""
    for day, file in zip(days[:2], ("pca/model.npz", "pca/fit/model.npz"), strict=True):
        features = np.stack(day.features["features"]).astype(np.float64)
        reference = PCA(svd_solver="full").fit(features)
        k = int(np.searchsorted(np.cumsum(reference.explained_variance_ratio_), 0.80) + 1)
        with np.load(lake / "runs" / day.current["run"] / file) as model:
            components, ratios = model["components_"], model["explained_variance_ratio_"]
        assert len(components) == k
        np.testing.assert_allclose(ratios, reference.explained_variance_ratio_[:k], rtol=1e-9)
        np.testing.assert_allclose(np.abs((components * reference.components_[:k]).sum(axis=1)), 1, rtol=1e-9)


def test_the_kept_basis_leaves_the_scores_of_unchanged_photos_and_explains_what_it_says(
    days: list[Day], lake: Path
) -> None:
    first, second, third = days
    axes = PCA(first.current["k"], svd_solver="full").fit(np.stack(first.features["features"]).astype(np.float64))
    assert first.current["basis"] == second.current["basis"] == third.current["basis"]
    assert second.current["basis"]["since"] == first.current["run"]
    before, after = (dict(zip(day.features.index, scores_of(day, lake), strict=True)) for day in (first, second))
    changed = f"file://{lake}/data/Banana/0_100.jpg"
    unchanged = set(before) & set(after) - {changed}
    assert len(unchanged) == 17
    assert all(before[path].tobytes() == after[path].tobytes() for path in unchanged)
    features = np.stack(second.features["features"]).astype(np.float64)
    expected, found = features @ axes.components_.T, scores_of(second, lake)
    signs = np.sign((expected * found).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-9 * np.abs(expected).max())
    captured = np.trace(axes.components_ @ np.cov(features.T) @ axes.components_.T) / np.trace(np.cov(features.T))
    assert second.current["variance_reached"] == pytest.approx(captured, rel=1e-9)
    history = read_history(Lake(f"file://{lake}"), None)
    assert [row["since"] for row in history] == [first.current["run"]] * 3
    assert [row["basis"] for row in history] == [first.current["basis"]["digest"]] * 3
    page = (lake / "runs" / second.current["run"] / "report.html").read_text(encoding="utf-8")
    assert f"in use since the run {first.current['run']}; the scores of 17 unchanged photos" in page


def test_results_show_the_published_state(days: list[Day], lake: Path) -> None:
    results = pd.read_parquet(lake / "results").set_index("path").sort_index()
    pd.testing.assert_frame_equal(results, days[2].features.sort_index())
    assert len(pd.read_csv(lake / "results_csv" / "pca_features.csv")) == len(results) == 20


def test_a_day_with_nothing_new_costs_no_cluster_and_says_why(days: list[Day]) -> None:
    outcome = days[2].outcome
    assert outcome.clusters == []
    ran = {"open_run", "find_changes", "terminate_cluster", "report_cost", "close_run"}
    assert {name for name, state in outcome.state.tasks.items() if state == "success"} == ran
    assert {state for name, state in outcome.state.tasks.items() if name not in ran} == {"skipped"}
    assert f"nothing has changed since the state 2, which the run {days[1].current['run']} published" in outcome.log
    assert days[2].files == days[1].files
