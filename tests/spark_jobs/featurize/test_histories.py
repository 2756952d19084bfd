"""After any history of additions, changes and deletions, a state equals one that is computed from scratch."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from spark_jobs.featurize import segments
from spark_jobs.lake import features
from spark_jobs.pca import analysis
from tests.spark_jobs import lake_days
from tests.spark_jobs.in_process import Here
from tests.spark_jobs.lake_days import DIMENSIONS, Day, Lake, photo

lake = lake_days.lake

pytestmark = pytest.mark.slow

ALWAYS = "b/always.jpg"
PATHS = [
    "a/1.jpg",
    "a/2.jpg",
    "a-/1.jpg",
    "a!b/1.jpg",
    "a/é.jpg",
    "pêche/1.jpg",
    "桃/😀.jpg",
    "b/1.jpg",
    "b/10.jpg",
    "z/9.jpg",
]
CONTENTS = [*(photo(seed) for seed in range(12)), b"", b"no image", photo(3)[:-20]]

photos_of_a_day = st.dictionaries(st.sampled_from(PATHS), st.sampled_from([*CONTENTS, None, None, None]), max_size=6)


def check_rows(lake: Lake, day: Day) -> None:
    expected = lake.expected()
    assert lake.rows(day.live) == expected
    of_run = lake_days.read(day.run / "rejects" / "part-00000.parquet")
    assert {row["path"]: (row["label"], row["reason"]) for row in of_run} == expected.rejects
    assert len(of_run) == len(expected.rejects)
    assert (day.summary["features"], day.summary["rejects"]) == (len(expected.features), len(expected.rejects))


def check_records(lake: Lake, day: Day) -> None:
    for segment in day.live:
        rows = lake.rows([segment])
        paths = sorted([*rows.features, *rows.rejects], key=str.encode)
        assert (segment["features"], segment["rejects"]) == (len(rows.features), len(rows.rejects))
        assert segment["images"] == len(paths) > 0
        assert (segment["first_path"], segment["last_path"]) == (paths[0], paths[-1])
        assert json.loads((lake.segments / segment["id"] / "segment.json").read_text()) == segment


def check_moments_and_pca(lake: Lake, day: Day) -> None:
    """Against NumPy and scikit-learn on the photos that remain."""
    expected = lake.expected().features
    if not expected:
        return
    vectors = {path: np.frombuffer(vector, np.float32).astype(np.float64) for path, (_, vector) in expected.items()}
    rows = np.stack(list(vectors.values()))
    centred = rows - rows.mean(axis=0)
    covariance = centred.T @ centred / max(1, len(rows) - 1)
    variances, axes = scikit_learn(rows)

    collected = analysis.collect_moments(Here(), features.find(f"file://{day.run}"))  # type: ignore[arg-type]
    assert collected.computed == {}, "stored moments are enough"
    assert collected.total.n == len(rows)
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(collected.total.mean, rows.mean(axis=0), rtol=1e-10, atol=1e-10 * np.abs(rows).max())
    np.testing.assert_allclose(collected.total.m2 / max(1, len(rows) - 1), covariance, rtol=0, atol=1e-10 * scale)

    model, scores = lake.fit(day)
    np.testing.assert_allclose(model["eigenvalues"], variances, rtol=0, atol=1e-10 * variances[0])
    np.testing.assert_allclose(model["mean_"], rows.mean(axis=0), rtol=1e-10, atol=1e-10 * np.abs(rows).max())
    assert scores.keys() == vectors.keys()
    for path, vector in vectors.items():
        np.testing.assert_allclose(scores[path], model["components_"] @ vector, rtol=0, atol=1e-10)
    for axis in np.flatnonzero(_gaps(variances)[: len(axes)] > 1e-3 * variances[0]):
        found, along = model["components_"][axis], axes[axis]
        np.testing.assert_allclose(found * np.sign(found @ along), along, rtol=0, atol=1e-10)


def scikit_learn(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The variances along all axes, and the axes that scikit-learn has."""
    variances = np.zeros(DIMENSIONS)
    if not (rows != rows[0]).any():
        return variances, np.empty((0, DIMENSIONS))
    fitted = PCA(svd_solver="full").fit(rows)
    variances[: len(fitted.explained_variance_)] = fitted.explained_variance_
    return variances, fitted.components_


def _gaps(variances: np.ndarray) -> np.ndarray:
    """The distance of each variance from the nearest other one; an axis is defined only by such a gap."""
    steps = np.concatenate([[np.inf], -np.diff(variances), [np.inf]])
    return np.minimum(steps[:-1], steps[1:])


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    history=st.lists(photos_of_a_day, min_size=3, max_size=5),
    rows_per_segment=st.sampled_from([4, 1, 10, 1_000]),
    small_segments=st.sampled_from([1, 2, 32]),
)
def test_a_state_after_any_history_is_that_of_a_run_from_scratch(
    lake: Lake, history: list[dict[str, bytes | None]], rows_per_segment: int, small_segments: int
) -> None:
    shutil.rmtree(lake.folder, ignore_errors=True)
    lake = Lake(lake.folder)
    lake.change({ALWAYS: CONTENTS[0]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "ROWS_PER_SEGMENT", rows_per_segment)
        for photos in history:
            before, files = dict(lake.photos), lake.files()
            day = lake.run_day(photos, small_segments=small_segments)
            if len(lake.days) > 1:
                written = {path for path, data in photos.items() if data is not None}
                assert day.changes["new"] == len(written - before.keys())
                assert day.changes["changed"] == len(written & before.keys())
                assert day.changes["gone"] == len(before.keys() - lake.photos.keys())
                assert day.summary["featurized"] == len(written)
            check_rows(lake, day)
            check_records(lake, day)
            check_moments_and_pca(lake, day)
            now = lake.files()
            assert {name: now.get(name) for name in files} == files, "a segment is never edited"


def names_of(lake: Lake, day: Day) -> set[str]:
    return {name for segment in day.live for name in segment["results"]}


def small_days(lake: Lake, count: int) -> list[Day]:
    """Days of two new photos each, none merged."""
    return [
        lake.run_day({f"a/{number}-{photo_}.jpg": photo(10 * number + photo_) for photo_ in range(2)})
        for number in range(count)
    ]


def test_merged_segments_keep_their_names_in_results_on_a_day_that_only_adds(lake: Lake) -> None:
    """Else a person who reads ``results/`` during the publication would see rows twice."""
    days = small_days(lake, 3)
    before = names_of(lake, days[-1])
    assert len(before) == 3
    day = lake.run_day({"a/new.jpg": photo(99)}, small_segments=1)
    (merged,) = day.live
    assert before < set(merged["results"]), "the files that are there stay"
    assert len(merged["results"]) == len(set(merged["results"])) == 4
    assert day.summary["rewritten"] == 3
    # Each name is that of a segment whose file has the rows, and together they have all rows once.
    rows = [
        row["path"]
        for name in merged["results"]
        for row in lake_days.read(
            lake.segments / name.removeprefix("part-").removesuffix(".parquet") / "features.parquet"
        )
    ]
    assert sorted(rows) == sorted(lake.expected().features)
    check_rows(lake, day)

    again = lake.run_day({"a/newer.jpg": photo(98)}, small_segments=1)
    (merged,) = again.live
    assert names_of(lake, day) < set(merged["results"])
    assert len(merged["results"]) == len(set(merged["results"])) == 5


@pytest.mark.parametrize("photos", [{"a/0-1.jpg": None}, {"a/0-1.jpg": photo(97)}], ids=["deleted", "changed"])
def test_a_segment_merged_on_a_day_that_removes_rows_has_a_name_of_its_own(
    lake: Lake, photos: dict[str, bytes | None]
) -> None:
    days = small_days(lake, 3)
    day = lake.run_day({"a/new.jpg": photo(99), **photos}, small_segments=1)
    (merged,) = day.live
    assert merged["results"] == [f"part-{merged['id']}.parquet"]
    assert names_of(lake, day).isdisjoint(names_of(lake, days[-1]))
    check_rows(lake, day)


def test_a_file_in_results_with_rows_of_two_merged_segments_is_replaced_when_one_row_goes(lake: Lake) -> None:
    small_days(lake, 3)
    lake.run_day({"a/new.jpg": photo(99)}, small_segments=1)
    day = lake.run_day({"a/1-1.jpg": None})
    (renewed,) = day.live
    assert renewed["results"] == [f"part-{renewed['id']}.parquet"], "the old files have a row that is gone"
    check_rows(lake, day)


def test_only_segments_that_lose_rows_are_replaced(lake: Lake) -> None:
    days = small_days(lake, 3)
    day = lake.run_day({"a/1-0.jpg": None, "a/1-1.jpg": photo(96)})
    kept = [segment for segment in day.live if segment in days[-1].live]
    assert [segment["id"] for segment in kept] == [days[-1].live[0]["id"], days[-1].live[2]["id"]]
    assert (len(day.live), day.summary["rewritten"], day.summary["featurized"]) == (3, 1, 1)
    check_rows(lake, day)


def test_small_segments_up_to_the_limit_and_large_ones_are_left_alone(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "ROWS_PER_SEGMENT", 6)
    large = lake.run_day({f"b/{number}.jpg": photo(number) for number in range(5)}).live
    assert [segment["images"] for segment in large] == [5]
    for number in range(3):
        day = lake.run_day({f"a/{number}.jpg": photo(number)}, small_segments=3)
        assert len(day.live) == 2 + number
    day = lake.run_day({"a/3.jpg": photo(30)}, small_segments=3)
    assert [segment["images"] for segment in day.live] == [5, 4]
    assert day.live[0] == large[0]
    check_rows(lake, day)


def test_a_full_run_replaces_every_segment(lake: Lake) -> None:
    before = {segment["id"] for segment in small_days(lake, 2)[-1].live}
    day = lake.run_day({}, full_run=True)
    assert before.isdisjoint(segment["id"] for segment in day.live)
    assert (day.summary["featurized"], day.summary["rewritten"]) == (4, 0)
    check_rows(lake, day)


def test_a_reject_is_remembered_and_read_again_when_it_changes(lake: Lake) -> None:
    lake.run_day({"a/1.jpg": photo(1), "a/bad.jpg": b"no image"})
    day = lake.run_day({"a/2.jpg": photo(2)})
    assert (day.summary["featurized"], day.summary["rejects_by_reason"]) == (1, {"not_an_image": 1})
    day = lake.run_day({"a/bad.jpg": photo(3)})
    assert (day.summary["featurized"], day.summary["rejects"]) == (1, 0)
    check_rows(lake, day)
