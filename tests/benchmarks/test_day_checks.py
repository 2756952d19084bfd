from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import day_checks

IMAGES, DIMENSIONS, K = 12, 5, 3
RANDOM = np.random.default_rng(20261127)
VECTORS = RANDOM.uniform(0, 6, (IMAGES, DIMENSIONS)).astype(np.float32)
SCORES = RANDOM.normal(size=(IMAGES, K)) * [100, 1, 1e-3]
PATHS = [f"file:///data/{'ab'[row % 2]}/{row:02}.jpg" for row in range(IMAGES)]
LABELS = [path.split("/")[-2] for path in PATHS]


def write(
    run: Path,
    *,
    order: list[int] | None = None,
    split: int = 5,
    vectors: np.ndarray = VECTORS,
    scores: np.ndarray = SCORES,
    csv: np.ndarray | None = None,
    labels: list[str] = LABELS,
    reject: str = "empty",
) -> Path:
    """Write a run: two segments, two files of scores, and the CSV, with the rows in an order."""
    order = order or list(range(IMAGES))
    live = []
    for number, rows in enumerate((order[:split], order[split:])):
        names = [[PATHS[row] for row in rows], [labels[row] for row in rows]]
        features = [*names, [vectors[row] for row in rows]]
        segment = run / "segments" / f"segment-{number}"
        segment.mkdir(parents=True)
        pq.write_table(pa.table(features, names=["path", "label", "features"]), segment / "features.parquet")
        live.append({"id": segment.name, "features": len(rows)})
        components = pa.array([scores[row] for row in rows], pa.list_(pa.float64()))
        (run / "pca" / "scores").mkdir(parents=True, exist_ok=True)
        table = pa.table([*names, components], names=["path", "label", "components"])
        pq.write_table(table, run / "pca" / "scores" / f"part-{number:05}.parquet")
    live.append({"id": "only-rejects", "features": 0})
    (run / "segments.json").write_text(json.dumps({"folder": f"file://{run}/segments", "segments": live}))
    (run / "rejects").mkdir()
    pq.write_table(pa.table({"path": ["file:///data/a/x.jpg"], "reason": [reject]}), run / "rejects" / "part-0.parquet")
    matrix = scores if csv is None else csv
    lines = [",".join([*map(repr, matrix[row].tolist()), labels[row]]) for row in order[: len(matrix)]]
    head = ",".join([*(f"F {number}" for number in range(1, matrix.shape[1] + 1)), "label"])
    (run / "pca" / "pca_features.csv").write_text("\n".join([head, *lines]) + "\n")
    return run


@pytest.fixture
def full(tmp_path: Path) -> Path:
    return write(tmp_path / "full")


def test_rows_in_another_order_and_components_of_other_signs_are_equal(tmp_path: Path, full: Path) -> None:
    order = RANDOM.permutation(IMAGES).tolist()
    run = write(tmp_path / "run", order=order, split=9, scores=SCORES * [1, -1, -1] * (1 + 1e-12))
    assert 0 < day_checks.check(run, full) < 1e-11


def test_a_single_bit_of_the_features_matters(tmp_path: Path, full: Path) -> None:
    vectors = VECTORS.copy()
    vectors[7, 2] = np.nextafter(vectors[7, 2], np.float32(9))
    with pytest.raises(ValueError, match=r"features of 1 images differ, the first is file:///data/b/07.jpg"):
        day_checks.check(write(tmp_path / "run", vectors=vectors), full)


@pytest.mark.parametrize("component", range(K))
def test_a_score_is_compared_in_the_scale_of_its_component(tmp_path: Path, full: Path, component: int) -> None:
    scores = SCORES.copy()
    scores[4, component] += 3e-9 * np.abs(SCORES[:, component]).max()
    with pytest.raises(ValueError, match=r"a score differs by 3.0e-09 of the largest of its component"):
        day_checks.check(write(tmp_path / "run", scores=scores), full)


def test_scores_that_are_not_numbers_are_refused(tmp_path: Path, full: Path) -> None:
    scores = SCORES.copy()
    scores[4, 1] = np.nan
    with pytest.raises(ValueError, match="a score differs by nan"):
        day_checks.check(write(tmp_path / "run", scores=scores, csv=SCORES), full)


def test_another_number_of_components_is_refused(tmp_path: Path, full: Path) -> None:
    with pytest.raises(ValueError, match="2 components, the full run has 3"):
        day_checks.check(write(tmp_path / "run", scores=SCORES[:, :2]), full)


def test_a_value_of_the_csv_is_compared_although_scores_are_equal(tmp_path: Path, full: Path) -> None:
    csv = SCORES.copy()
    csv[4, 2] += 3e-9 * np.abs(SCORES[:, 2]).max()
    with pytest.raises(ValueError, match=r"a value of the CSV differs by 3.0e-09"):
        day_checks.check(write(tmp_path / "run", csv=csv), full)


def test_a_row_that_the_csv_lacks_is_missed(tmp_path: Path, full: Path) -> None:
    with pytest.raises(ValueError, match="the CSV has 11 rows, that of the full run 12"):
        day_checks.check(write(tmp_path / "run", csv=SCORES[:-1]), full)


def test_a_row_twice_in_the_csv_is_no_substitute_for_another(tmp_path: Path, full: Path) -> None:
    with pytest.raises(ValueError, match="a value of the CSV differs"):
        day_checks.check(write(tmp_path / "run", csv=np.vstack([SCORES[:10], SCORES[8:10]])), full)


def test_a_path_that_is_twice_is_refused(tmp_path: Path, full: Path) -> None:
    with pytest.raises(ValueError, match="a path is twice in the features"):
        day_checks.check(write(tmp_path / "run", order=[*range(IMAGES), 3]), full)


def test_another_set_of_images_and_another_label_are_refused(tmp_path: Path, full: Path) -> None:
    for number, options in enumerate(({"order": list(range(1, IMAGES))}, {"labels": ["c", *LABELS[1:]]})):
        with pytest.raises(ValueError, match=r"features of 1[12] images, the full run has others"):
            day_checks.check(write(tmp_path / str(number), **options), full)  # type: ignore[arg-type]


def test_another_reason_of_a_reject_is_refused(tmp_path: Path, full: Path) -> None:
    with pytest.raises(ValueError, match="rejects differ"):
        day_checks.check(write(tmp_path / "run", reject="too_large"), full)
