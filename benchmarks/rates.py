"""Rates from two sizes, for a job with a fixed cost and a cost per image: seconds(n) = fixed + n / rate."""

from __future__ import annotations

import statistics
from collections.abc import Iterable


def marginal_rate(fewer: int, fewer_seconds: float, more: int, more_seconds: float) -> float:
    """Return the images per second between two sizes, without the fixed cost.

    Raises
    ------
    SystemExit
        If the larger size took no longer: the machine was busy, or the sizes are too close.
    """
    if more <= fewer:
        raise ValueError(f"{more} images are not more than {fewer}")
    if more_seconds <= fewer_seconds:
        raise SystemExit(
            f"{more} images took {more_seconds:.1f} s and {fewer} took {fewer_seconds:.1f} s: this gives no rate; "
            "measure on a quiet machine, or use sizes that are further apart"
        )
    return (more - fewer) / (more_seconds - fewer_seconds)


def fixed_seconds(count: int, seconds: float, rate: float) -> float:
    """Return the fixed cost: the seconds without the images' share at this rate."""
    return seconds - count / rate


def median(values: Iterable[float]) -> float:
    """Return the median, to the millisecond."""
    return round(statistics.median(values), 3)
