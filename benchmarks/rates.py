"""What two sizes tell of a job whose time is a fixed cost and a cost per image: seconds(n) = fixed + n / rate."""

from __future__ import annotations

import statistics
from collections.abc import Iterable


def marginal_rate(fewer: int, fewer_seconds: float, more: int, more_seconds: float) -> float:
    """Return the images a second between two sizes, which the fixed cost has no part in.

    Raises
    ------
    SystemExit
        When the larger size took no longer: the machine was disturbed, or the sizes are too near each other.
    """
    if more <= fewer:
        raise ValueError(f"{more} images are not more than {fewer}")
    if more_seconds <= fewer_seconds:
        raise SystemExit(
            f"{more} images took {more_seconds:.1f} s and {fewer} took {fewer_seconds:.1f} s: no rate comes of that; "
            "measure on a quiet machine, or take sizes that are further apart"
        )
    return (more - fewer) / (more_seconds - fewer_seconds)


def fixed_seconds(count: int, seconds: float, rate: float) -> float:
    """Return what is left of the seconds of some images when each has had its share at this rate."""
    return seconds - count / rate


def median(values: Iterable[float]) -> float:
    """Return the median, to the millisecond."""
    return round(statistics.median(values), 3)
