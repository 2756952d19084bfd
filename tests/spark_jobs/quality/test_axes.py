"""The map from old to new components, solved by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spark_jobs.quality import axes


def test_axes_that_changed_places_and_signs_are_found() -> None:
    old = np.eye(5)[:3]
    new = np.array([[0.0, 0, 1, 0, 0], [-1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]])
    assert axes.match(old, new) == [
        {"new": 2, "cosine": -1.0, "inside": 1.0},
        {"new": 3, "cosine": 1.0, "inside": 1.0},
        {"new": 1, "cosine": 1.0, "inside": 1.0},
    ]


def test_axes_rotated_by_thirty_degrees() -> None:
    """The first two axes turn in their plane; the third turns out of the space, which keeps half of it."""
    cosine, sine, half = np.sqrt(3) / 2, 0.5, np.sqrt(0.5)
    old = np.eye(4)[:3]
    new = np.array([[-cosine, -sine, 0, 0], [-sine, cosine, 0, 0], [0, 0, half, half]])
    found = axes.match(old, new)
    assert [axis["new"] for axis in found] == [1, 2, 3]
    np.testing.assert_allclose([axis["cosine"] for axis in found], [-cosine, cosine, half], rtol=1e-15)
    assert [axis["inside"] for axis in found] == pytest.approx([1, 1, 0.5])


def test_an_old_axis_beyond_the_new_ones_is_outside() -> None:
    assert axes.match(np.eye(3), np.eye(3)[:2])[2] == {"new": 1, "cosine": 0.0, "inside": 0.0}
