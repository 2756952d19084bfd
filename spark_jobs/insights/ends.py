"""The photos at both ends of the first components: what a component means, shown by the photos that have most of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from spark_jobs.insights.geometry import Floats

COMPONENTS = 5
"""Number of components whose ends are shown."""

PHOTOS = 6
"""Number of photos at each end."""

PER_LABEL = 3
"""Number of these photos that may have the same label: photos of one object in a row would say little."""


class EndPhoto(NamedTuple):
    """A photo at an end of a component; ``score`` is negated at the upper end, so that smaller is further out."""

    score: float
    path: str
    label: str


Ends = list[list[EndPhoto]]
"""The photos at the lower and at the upper end of each component: 2·c lists, the outermost photo first."""


def find(paths: Sequence[str], labels: Sequence[str], points: Floats) -> Ends:
    """Return the outermost photos of a block.

    Parameters
    ----------
    paths, labels : sequence of str
        One per row.
    points : ndarray of float64, shape (n, c)
    """
    found: Ends = []
    for component in range(min(COMPONENTS, points.shape[1])):
        for scores in (points[:, component], -points[:, component]):
            order = np.argsort(scores, kind="stable")
            found.append(_outermost(EndPhoto(float(scores[row]), paths[row], labels[row]) for row in order))
    return found


def merge(parts: Sequence[Ends]) -> Ends:
    """Return the outermost photos of all parts; the same as of all photos at once."""
    return [_outermost(sorted(photo for end in ends for photo in end)) for ends in zip(*parts, strict=True)]


def _outermost(photos: Iterable[EndPhoto]) -> list[EndPhoto]:
    """Return the first photos, with at most ``PER_LABEL`` of each label."""
    chosen: list[EndPhoto] = []
    used: Counter[str] = Counter()
    for photo in photos:
        if used[photo.label] < PER_LABEL:
            used[photo.label] += 1
            chosen.append(photo)
            if len(chosen) == PHOTOS:
                break
    return chosen
