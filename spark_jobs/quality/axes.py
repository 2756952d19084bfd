"""The map from the components of an earlier fit to those of a later one. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spark_jobs.records import Axis

Floats = NDArray[np.float64]


def match(old: Floats, new: Floats) -> list[Axis]:
    """Return the new component that is most like each old one.

    The cosines of all pairs are the elements of V_old·V_newᵀ. Two old components may be most like the same new one.

    Parameters
    ----------
    old, new : ndarray of float64, shape (k, d)
        Orthonormal rows; ``k`` may differ.

    Returns
    -------
    list of Axis
        One per old component, in their order. ``inside`` is the squared length of its projection on the space of the
        new components: it is 1 if a rotation of the new components gives the old one.
    """
    cosines = old @ new.T
    best = np.abs(cosines).argmax(axis=1)
    inside = np.minimum(1.0, np.square(cosines).sum(axis=1))
    return [
        {"new": int(column) + 1, "cosine": float(cosines[row, column]), "inside": float(inside[row])}
        for row, column in enumerate(best)
    ]
