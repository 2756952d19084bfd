"""Every photo compared with the reference: neighbours of another label, photos far from all others, candidates.

A worker reads the scores of one part, a block at a time. What it returns is bounded.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spark_jobs.insights import geometry
from spark_jobs.insights.cells import MAX_OF_A_CELL, Grids, Shared
from spark_jobs.insights.geometry import Floats, Points, Space
from spark_jobs.insights.reference import Photos
from spark_jobs.lake import storage

NEIGHBOURS = 5
"""Number of nearest neighbours that vote, as in the certificate of quality."""

MAJORITY = 3
"""Number of the five neighbours that must carry one and the same other label."""

MAX_ROWS = 1000
"""Number of photos in a list of the report."""

BLOCK_ROWS = 1024
"""Photos that are compared at a time: 16 MB of distances."""


class Suspect(NamedTuple):
    """A photo none of whose five nearest neighbours carries its label.

    ``rank`` is the negated ratio of the distances to its own label and to the others: the smallest is the clearest.
    """

    rank: float
    path: str
    label: str
    looks_like: str
    votes: int
    """Number of the five neighbours that carry ``looks_like``."""
    nearest: str
    """Path of the nearest of them."""
    own_distance: float
    """To the nearest photo of its own label in the reference."""
    other_distance: float
    """To ``nearest``."""


class Outlier(NamedTuple):
    """A photo and its distance to its fifth neighbour; ``rank`` is that distance, negated."""

    rank: float
    path: str
    label: str


class Neighbour(NamedTuple):
    """A neighbour of a photo."""

    distance: float
    path: str
    label: str


class Candidate(NamedTuple):
    """A photo in a cell that several photos share."""

    path: str
    label: str
    point: Floats


@dataclass(frozen=True)
class Scale:
    """How far photos usually are from their fifth neighbour, measured on the reference.

    Attributes
    ----------
    usual : float
        The median.
    fence : float
        Third quartile plus three times the interquartile range: the outer fence of Tukey (1977).
    """

    usual: float
    fence: float


@dataclass(frozen=True)
class Comparison:
    """What every photo is compared with.

    Attributes
    ----------
    space : Space
    grids : Grids
    reference : Photos
    shared : tuple of Shared
        The shared cells of each grid.
    scale : Scale
    asked : tuple of int
        Rows of the reference whose neighbours are searched among all photos.
    """

    space: Space
    grids: Grids
    reference: Photos
    shared: tuple[Shared, ...]
    scale: Scale
    asked: tuple[int, ...]


@dataclass
class Compared:
    """The result for one part, or for all.

    Attributes
    ----------
    judged, suspect_count, outlier_count : int
        Photos whose label could be judged, suspects among them, and photos beyond the fence.
    suspects, outliers : list
        The first ``MAX_ROWS`` of them; the outliers are the photos farthest from their neighbours, beyond the fence or
        not.
    neighbours : list of list of Neighbour
        The nearest photos of each photo that was asked for.
    cells : dict of (int, int) to list of Candidate
        By grid and hash: the photos of a shared cell with the smallest paths.
    """

    judged: int = 0
    suspect_count: int = 0
    outlier_count: int = 0
    suspects: list[Suspect] = field(default_factory=list)
    outliers: list[Outlier] = field(default_factory=list)
    neighbours: list[list[Neighbour]] = field(default_factory=list)
    cells: dict[tuple[int, int], list[Candidate]] = field(default_factory=lambda: defaultdict(list))


def measure_scale(reference: Photos) -> Scale:
    """Return how far the photos of the reference are from their fifth neighbour (or from the last one there is)."""
    count = min(NEIGHBOURS, len(reference) - 1)
    if count < 1:
        return Scale(0.0, 0.0)
    distances = []
    for start in range(0, len(reference), BLOCK_ROWS):
        block = reference.points[start : start + BLOCK_ROWS]
        squared = geometry.squared_distances(block, reference.points)
        squared[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        distances.append(np.sqrt(geometry.nearest(squared, count)[1][:, -1]))
    low, median, high = np.quantile(np.concatenate(distances).astype(np.float64), [0.25, 0.5, 0.75])
    return Scale(float(median), float(high + 3 * (high - low)))


def ask(reference: Photos, count: int) -> tuple[int, ...]:
    """Return the rows of a few photos of different labels: of each label the first one, in the order of their keys."""
    _, firsts = np.unique(reference.labels, return_index=True)
    return tuple(int(row) for row in firsts[np.argsort(reference.keys[firsts], kind="stable")][:count])


def compare(scores_file: str, comparison: Comparison) -> Compared:
    """Compare the photos of a file of scores with the reference.

    Parameters
    ----------
    scores_file : str
        URI of a Parquet file with the schema ``schemas.SCORES``.
    comparison : Comparison
    """
    result = Compared(neighbours=[[] for _ in comparison.asked])
    worker = _Worker(comparison, result)
    with storage.open_file(scores_file) as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(BLOCK_ROWS, use_threads=False):
            paths, labels = batch.column("path").to_pylist(), batch.column("label").to_pylist()
            scores = batch.column("components").flatten().to_numpy().reshape(batch.num_rows, -1)
            worker.add(paths, labels, comparison.space.place(scores))
    return result


def merge(parts: Sequence[Compared]) -> Compared:
    """Return the results of all parts as one."""
    cells: dict[tuple[int, int], list[Candidate]] = defaultdict(list)
    for part in parts:
        for cell, candidates in part.cells.items():
            cells[cell] += candidates
    return Compared(
        sum(part.judged for part in parts),
        sum(part.suspect_count for part in parts),
        sum(part.outlier_count for part in parts),
        heapq.nsmallest(MAX_ROWS, (row for part in parts for row in part.suspects)),
        heapq.nsmallest(MAX_ROWS, (row for part in parts for row in part.outliers)),
        [
            heapq.nsmallest(NEIGHBOURS, (row for found in per_part for row in found))
            for per_part in zip(*(part.neighbours for part in parts), strict=True)
        ],
        {cell: _first(candidates) for cell, candidates in cells.items()},
    )


def _first(candidates: list[Candidate]) -> list[Candidate]:
    return heapq.nsmallest(MAX_OF_A_CELL, candidates, key=lambda candidate: candidate.path)


class _Worker:
    """Compares one block after the other."""

    def __init__(self, comparison: Comparison, result: Compared) -> None:
        self._comparison, self._result = comparison, result
        reference = comparison.reference
        self._row_of = {path: row for row, path in enumerate(reference.paths)}
        names, self._codes = np.unique(reference.labels, return_inverse=True)
        self._code_of = {name: code for code, name in enumerate(names)}
        self._counts = np.bincount(self._codes, minlength=len(names))

    def add(self, paths: Sequence[str], labels: Sequence[str], points: Floats) -> None:
        """Compare a block of photos."""
        own = np.array([self._row_of.get(path, -1) for path in paths])
        codes = np.array([self._code_of.get(label, -1) for label in labels])
        self._collect_candidates(paths, labels, points)
        squared = geometry.squared_distances(points.astype(np.float32), self._comparison.reference.points)
        inside = np.flatnonzero(own >= 0)
        self._add_neighbours(paths, labels, squared, own)
        squared[inside, own[inside]] = np.inf
        count = min(NEIGHBOURS, len(self._comparison.reference) - 1)
        if count < 1:
            return
        columns, values = geometry.nearest(squared.copy(), count)
        distances = np.sqrt(values[:, -1])
        self._add_outliers(paths, labels, distances)
        if count == NEIGHBOURS:
            # A photo is judged if the reference has enough others of its label to win the vote.
            others = np.where(codes >= 0, self._counts[codes], 0) - (own >= 0)
            self._add_suspects(paths, labels, codes, others >= NEIGHBOURS, squared, columns)

    def _add_suspects(
        self,
        paths: Sequence[str],
        labels: Sequence[str],
        codes: NDArray[np.intp],
        judged: NDArray[np.bool_],
        squared: Points,
        columns: NDArray[np.intp],
    ) -> None:
        result, reference = self._result, self._comparison.reference
        result.judged += int(judged.sum())
        votes = self._codes[columns]
        for row in np.flatnonzero(judged & (votes != codes[:, None]).all(axis=1)):
            # Counter keeps the order of the neighbours: in a tie, the label of the nearest counts.
            looks_like, count = Counter(votes[row].tolist()).most_common(1)[0]
            if count < MAJORITY:
                continue
            nearest = columns[row][votes[row] == looks_like][0]
            own = float(np.sqrt(squared[row, self._codes == codes[row]].min()))
            other = float(np.sqrt(squared[row, nearest]))
            rank = -own / max(other, 1e-6 * (self._comparison.space.deviation or 1.0))
            label = str(reference.labels[nearest])
            path = str(reference.paths[nearest])
            result.suspects.append(Suspect(rank, paths[row], labels[row], label, count, path, own, other))
            result.suspect_count += 1
        if len(result.suspects) > 2 * MAX_ROWS:
            result.suspects = heapq.nsmallest(MAX_ROWS, result.suspects)

    def _add_outliers(self, paths: Sequence[str], labels: Sequence[str], distances: Points) -> None:
        result, fence = self._result, self._comparison.scale.fence
        result.outlier_count += int((distances > fence).sum())
        rows = np.argsort(-distances, kind="stable")[:MAX_ROWS]
        result.outliers += [Outlier(-float(distances[row]), paths[row], labels[row]) for row in rows]
        if len(result.outliers) > 2 * MAX_ROWS:
            result.outliers = heapq.nsmallest(MAX_ROWS, result.outliers)

    def _add_neighbours(
        self, paths: Sequence[str], labels: Sequence[str], squared: Points, own: NDArray[np.intp]
    ) -> None:
        for number, asked in enumerate(self._comparison.asked):
            column = squared[:, asked]
            rows = [row for row in np.argsort(column, kind="stable")[: NEIGHBOURS + 1] if own[row] != asked]
            found = [Neighbour(float(np.sqrt(column[row])), paths[row], labels[row]) for row in rows]
            held = self._result.neighbours
            held[number] = heapq.nsmallest(NEIGHBOURS, [*held[number], *found])

    def _collect_candidates(self, paths: Sequence[str], labels: Sequence[str], points: Floats) -> None:
        comparison, cells = self._comparison, self._result.cells
        for grid, (hashes, shared) in enumerate(zip(comparison.grids.hash(points), comparison.shared, strict=True)):
            for row in np.flatnonzero(np.isin(hashes, shared.hashes)):
                cell = cells[(grid, int(hashes[row]))]
                cell.append(Candidate(paths[row], labels[row], points[row]))
                if len(cell) > 2 * MAX_OF_A_CELL:
                    cell[:] = _first(cell)
