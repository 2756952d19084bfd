"""What a worker collects of the photos while it writes their scores; its size is bounded."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spark_jobs.insights import cells, ends, geometry, reference
from spark_jobs.insights.cells import Grids, Hashes
from spark_jobs.insights.ends import Ends
from spark_jobs.insights.geometry import Space
from spark_jobs.insights.reference import UNLIMITED, Photos, Reference
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.quality import sampling

logger = logging.getLogger(__name__)

MAP_PHOTOS = 1000
"""Number of photos on the map."""


@dataclass(frozen=True)
class Collected:
    """What a worker has collected of its photos.

    Attributes
    ----------
    on_map : Photos
        Candidates for the map.
    reference : Reference
    ends : Ends
    hashes : tuple of ndarray of uint64
        The hashes of each grid.
    """

    on_map: Photos
    reference: Reference
    ends: Ends
    hashes: tuple[Hashes, ...]


@dataclass(frozen=True)
class Rule:
    """What is collected, the same in all workers.

    Attributes
    ----------
    space : Space
    grids : Grids
    seed : int
    largest_key : int
        The result of :func:`spark_jobs.quality.sampling.limit` for the map.
    """

    space: Space
    grids: Grids
    seed: int
    largest_key: int

    def collector(self) -> Collector:
        """Return what collects the photos of one part."""
        return Collector(self)


def make_rule(fitted: FittedPca, images: int, seed: int) -> Rule:
    """Return the rule for a fit, a number of photos and a random seed."""
    space = geometry.space_of(fitted)
    return Rule(space, cells.make(space, images, seed), seed, sampling.limit(images, MAP_PHOTOS))


@dataclass
class Collector:
    """Collects the photos of one part, a block at a time.

    An error never fails the job: it ends the collection, and the report says so.

    Attributes
    ----------
    rule : Rule
    problem : str or None
        Why the collection has ended.
    """

    rule: Rule
    problem: str | None = None
    _on_map: list[Photos] = field(default_factory=list)
    _reference: list[Reference] = field(default_factory=list)
    _ends: list[Ends] = field(default_factory=list)
    _hashes: list[Hashes] = field(default_factory=list)

    def add(self, paths: Sequence[str], labels: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Add a block of photos; ``scores`` are as the job writes them, shape (n, k)."""
        if self.problem is None:
            with self._noting_errors():
                self._add(paths, labels, scores)

    @contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the scores matter more than the report
            self.problem = f"{type(error).__name__}: {error}"
            logger.exception("the photos for the report cannot be collected")

    def _add(self, paths: Sequence[str], labels: Sequence[str], scores: NDArray[np.float64]) -> None:
        rule, points = self.rule, self.rule.space.place(scores)
        keys = sampling.keys(paths, rule.seed)
        photos = Photos(keys, np.array(paths, object), np.array(labels, object), points.astype(np.float32))
        chosen = np.flatnonzero(keys <= np.uint64(rule.largest_key))
        self._on_map.append(photos.take(chosen))
        self._reference.append(Reference(photos, UNLIMITED))
        if sum(len(part.photos) for part in self._reference) > 3 * reference.REFERENCE_PHOTOS:
            self._reference = [reference.balance(self._reference)]
        self._ends = [ends.merge([*self._ends, ends.find(paths, labels, points)])]
        self._hashes.append(rule.grids.hash(points))

    def result(self) -> Collected | None:
        """Return what was collected; None if there was no photo or a problem."""
        if self.problem is None and self._on_map:
            with self._noting_errors():
                return self._result()
        return None

    def _result(self) -> Collected:
        limit = np.uint64(self.rule.grids.largest_hash)
        hashes = tuple(row[row <= limit] for row in np.concatenate(self._hashes, axis=1))
        return Collected(
            reference.join(self._on_map), reference.balance(self._reference), ends.merge(self._ends), hashes
        )


def merge(parts: Sequence[Collected]) -> Collected:
    """Return what was collected of all photos; the same as if one worker had collected it."""
    on_map = reference.join([part.on_map for part in parts])
    rows = np.argsort(on_map.keys, kind="stable")[:MAP_PHOTOS]
    hashes = tuple(np.concatenate(grid) for grid in zip(*(part.hashes for part in parts), strict=True))
    return Collected(
        on_map.take(rows),
        reference.balance([part.reference for part in parts]),
        ends.merge([part.ends for part in parts]),
        hashes,
    )
