"""How the listed images are shared out to Spark tasks: by count and by bytes, whatever their folders."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LEAST_TASKS_PER_CORE = 2
"""Tasks a core that a small listing is cut into, so that a slow core takes fewer."""

MOST_SMALL_TASKS_PER_CORE = 8
SMALL_TASKS_OF_A_FULL_ONE = 12
"""Below so many tasks a core, a full task is cut into as many of ten seconds, so that a person sees progress."""

ROUNDING = 1e-6
"""Of a task: what adding up a million fractions may be wrong by."""


def plan(
    sizes: npt.NDArray[np.int64], *, images_per_task: int, bytes_per_task: int, parallelism: int
) -> npt.NDArray[np.int64]:
    """Cut the listing into consecutive ranges of about the same work.

    An image's work is 1/``images_per_task`` for the resize and the model, which cost the same for every image, and
    size/``bytes_per_task`` for reading and decoding: a range of work 1 is a full task. The number of ranges is that of
    :func:`count_tasks`. Each border is where the work before it comes nearest to its share, so that ranges differ by
    one image's work at most.

    Parameters
    ----------
    sizes : ndarray of int64, shape (n,)
        Bytes to be read of each image, in the order of the listing; n is 1 or more.
    images_per_task, bytes_per_task : int
        What one task does when it is full.
    parallelism : int
        Tasks that run at a time.

    Returns
    -------
    ndarray of int64, shape (tasks + 1,)
        Strictly ascending from 0 to n: task i takes the rows from borders[i] to borders[i + 1].
    """
    work = np.cumsum(sizes / bytes_per_task + 1.0 / images_per_task)
    tasks = min(len(sizes), count_tasks(float(work[-1]), parallelism))
    shares = work[-1] * np.arange(1, tasks) / tasks
    after = np.searchsorted(work, shares)  # the image within which the share is reached
    before = np.where(after > 0, work[after - 1], 0.0)
    borders = after + (work[after] - shares < shares - before)
    # A few huge images among tiny ones would leave ranges of none: each border is moved past the one before it, and
    # far enough from the end.
    numbers = np.arange(1, tasks)
    borders = np.maximum.accumulate(borders - numbers) + numbers
    borders = np.minimum(np.maximum(borders, numbers), len(sizes) - tasks + numbers)
    return np.array([0, *borders, len(sizes)], np.int64)


def count_tasks(work: float, parallelism: int) -> int:
    """Return how many tasks share some work, were it divisible at will.

    Many full tasks, or few that are smaller: at least two a core and, with work enough, eight, as many for each core.

    Parameters
    ----------
    work : float
        In full tasks.
    parallelism : int
        Tasks that run at a time.
    """
    small = math.ceil(work * SMALL_TASKS_OF_A_FULL_ONE / parallelism)
    rounds = min(max(small, LEAST_TASKS_PER_CORE), MOST_SMALL_TASKS_PER_CORE)
    return max(math.ceil(work - ROUNDING), rounds * parallelism)
