"""Checks that a state of the lake equals a run from scratch: features bit by bit, scores and CSV within a tolerance.

Files are read with pyarrow alone. Rows are compared by path, and those of the CSV as a multiset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from spark_jobs.args import CSV_FILE, FEATURES_FILE, LIVE_SEGMENTS_FILE, REJECTS_FOLDER, SCORES_FOLDER

TOLERANCE = 1e-9
"""Largest difference of a score, in units of the largest score of its component."""

Floats = npt.NDArray[np.float64]


class Rows(NamedTuple):
    """Rows of a dataset in the order of their paths."""

    paths: list[str]
    labels: list[str]
    values: npt.NDArray[np.floating]


def check(run: Path, full: Path) -> float:
    """Compare the outputs of two runs on the same photos.

    Parameters
    ----------
    run, full : Path
        Folders of a run that followed other days, and of a run from scratch.

    Returns
    -------
    float
        The largest difference of a score, in the units of :data:`TOLERANCE`.

    Raises
    ------
    ValueError
        If paths, labels, rejects, a bit of the features or the number of components differ, if a path is there twice,
        or if a score or a value of the CSV differs by more than :data:`TOLERANCE`.
    """
    if _rejects(run) != _rejects(full):
        raise ValueError("rejects differ from those of the full run")
    check_features(_features(run), _features(full))
    scores, expected = (_rows((each / SCORES_FOLDER).glob("*.parquet"), "components") for each in (run, full))
    signs, scale = check_scores(scores, expected)
    difference = float((np.abs(scores.values * signs - expected.values) / scale).max())
    check_csv(run / CSV_FILE, full / CSV_FILE, signs, scale)
    return difference


def check_features(found: Rows, expected: Rows) -> None:
    """Raise ValueError unless paths, labels and the bits of all vectors are equal."""
    _check_names(found, expected, "features")
    pairs = (np.ascontiguousarray(each.values, np.float32).view(np.uint32) for each in (found, expected))
    differing = np.flatnonzero(np.not_equal(*pairs).any(axis=1))
    if len(differing):
        raise ValueError(f"features of {len(differing)} images differ, the first is {found.paths[differing[0]]}")


def check_scores(found: Rows, expected: Rows) -> tuple[Floats, Floats]:
    """Compare scores up to the sign of each component, and return the signs and the largest score per component.

    Raises
    ------
    ValueError
        If they differ.
    """
    _check_names(found, expected, "scores")
    if found.values.shape != expected.values.shape:
        raise ValueError(f"{found.values.shape[1]} components, the full run has {expected.values.shape[1]}")
    signs = np.where(np.einsum("ij,ij->j", found.values, expected.values) < 0, -1.0, 1.0)
    scale = np.abs(expected.values).max(axis=0)
    worst = float((np.abs(found.values * signs - expected.values) / scale).max())
    if not worst <= TOLERANCE:
        raise ValueError(f"a score differs by {worst:.1e} of the largest of its component")
    return signs, scale


def check_csv(found: Path, expected: Path, signs: Floats, scale: Floats) -> None:
    """Compare two CSV files as multisets of rows.

    Rows are sorted by label and first component. Rows whose first components are equal within the tolerance, although
    the others are not, could be in another order and fail; this is unlikely to happen with photos.

    Parameters
    ----------
    found, expected : Path
    signs, scale : ndarray of shape (k,)
        The result of :func:`check_scores`.

    Raises
    ------
    ValueError
        If they differ.
    """
    labels, values = _read_csv(found, len(scale))
    other_labels, other_values = _read_csv(expected, len(scale))
    if len(labels) != len(other_labels):
        raise ValueError(f"the CSV has {len(labels)} rows, that of the full run {len(other_labels)}")
    values = values * signs
    order, other_order = np.lexsort((values[:, 0], labels)), np.lexsort((other_values[:, 0], other_labels))
    if not np.array_equal(labels[order], other_labels[other_order]):
        raise ValueError("the CSV has other labels than that of the full run")
    worst = float((np.abs(values[order] - other_values[other_order]) / scale).max())
    if not worst <= TOLERANCE:
        raise ValueError(f"a value of the CSV differs by {worst:.1e} of the largest of its column")


def _check_names(found: Rows, expected: Rows, what: str) -> None:
    if len(set(found.paths)) != len(found.paths):
        raise ValueError(f"a path is twice in the {what}")
    if found.paths != expected.paths or found.labels != expected.labels:
        raise ValueError(f"{what} of {len(found.paths)} images, the full run has others ({len(expected.paths)})")


def _features(run: Path) -> Rows:
    live = json.loads((run / LIVE_SEGMENTS_FILE).read_text())
    folder = Path(live["folder"].removeprefix("file://"))
    return _rows((folder / each["id"] / FEATURES_FILE for each in live["segments"] if each["features"]), "features")


def _rows(files: Iterable[Path], column: str) -> Rows:
    names = ["path", "label", column]
    tables = [pq.read_table(file, columns=names, partitioning=None) for file in sorted(files)]
    table = pa.concat_tables(tables).sort_by("path")
    lists = table[column].combine_chunks()
    values = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), -1)
    return Rows(table["path"].to_pylist(), table["label"].to_pylist(), values)


def _rejects(run: Path) -> list[tuple[str, str]]:
    tables = [pq.read_table(file, partitioning=None) for file in (run / REJECTS_FOLDER).glob("*.parquet")]
    return sorted((row["path"], row["reason"]) for table in tables for row in table.to_pylist())


def _read_csv(file: Path, k: int) -> tuple[npt.NDArray[np.str_], Floats]:
    names = [f"F {number}" for number in range(1, k + 1)]
    types = {**dict.fromkeys(names, pa.float64()), "label": pa.string()}
    table = pa_csv.read_csv(file, convert_options=pa_csv.ConvertOptions(column_types=types))
    if table.column_names != list(types):
        raise ValueError(f"{file} has the columns {table.column_names}, expected F 1 … F {k}, label")
    return np.array(table["label"].to_pylist()), np.column_stack([table[name].to_numpy() for name in names])
