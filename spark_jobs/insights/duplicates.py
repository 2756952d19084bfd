"""Groups of photos with equal or nearly equal vectors, from the candidates that share cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spark_jobs.insights.cells import DIMENSIONS
from spark_jobs.insights.comparison import Candidate
from spark_jobs.insights.geometry import Space

SAME = 1e-9
"""Largest distance of equal vectors, in standard deviations of the features: the rounding error of their scores."""

CLOSE = 0.05
"""Largest distance of nearly equal vectors, in standard deviations of the features. On the shared photos, the closest
two different photos are 0.08 apart (docs/report.md)."""

MAX_GROUPS = 500


@dataclass(frozen=True)
class Group:
    """Photos with equal or nearly equal vectors.

    Attributes
    ----------
    members : tuple of Candidate
        By path.
    distances : tuple of float
        Of each member to the nearest other one, in standard deviations of the features.
    """

    members: tuple[Candidate, ...]
    distances: tuple[float, ...]

    @property
    def is_same(self) -> bool:
        """Whether the vectors are equal."""
        return max(self.distances) == 0


def find(cells: Mapping[tuple[int, int], Sequence[Candidate]], space: Space) -> list[Group]:
    """Return the groups: those with equal vectors first, then by distance, then by path.

    With fewer components than a grid has dimensions, distances say too little: only equal vectors are found.
    """
    close = CLOSE if space.components >= DIMENSIONS else SAME
    unit = space.deviation or 1.0
    by_path: dict[str, Candidate] = {}
    nearest: dict[str, float] = {}
    parent: dict[str, str] = {}

    def root(path: str) -> str:
        while parent[path] != path:
            parent[path] = parent[parent[path]]
            path = parent[path]
        return path

    # Equal vectors share a cell in every grid: their distances are computed once.
    unique = {tuple(member.path for member in members): members for members in cells.values()}
    for members in unique.values():
        points = np.stack([member.point for member in members])
        differences = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2)) / unit
        for first, second in zip(*np.nonzero(np.triu(differences <= close, 1)), strict=True):
            distance = float(differences[first, second])
            distance = 0.0 if distance <= SAME else distance
            for member in (members[first], members[second]):
                by_path[member.path] = member
                parent.setdefault(member.path, member.path)
                nearest[member.path] = min(distance, nearest.get(member.path, distance))
            parent[root(members[first].path)] = root(members[second].path)
    groups: dict[str, list[str]] = {}
    for path in sorted(by_path):
        groups.setdefault(root(path), []).append(path)
    found = [
        Group(tuple(by_path[path] for path in paths), tuple(nearest[path] for path in paths))
        for paths in groups.values()
    ]
    found.sort(key=lambda group: (max(group.distances), group.members[0].path))
    return found[:MAX_GROUPS]
