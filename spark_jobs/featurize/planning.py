"""Division of the listed images into Spark tasks by number and bytes, independent of their folders."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

LEAST_TASKS_PER_CORE = 2
"""Least number of tasks per core, so that a slow core can process fewer."""

MOST_SMALL_TASKS_PER_CORE = 8
SMALL_TASKS_OF_A_FULL_ONE = 12
"""Up to ``MOST_SMALL_TASKS_PER_CORE`` tasks per core, a full task is divided into ``SMALL_TASKS_OF_A_FULL_ONE`` tasks
of about ten seconds, so that a person sees progress."""

ROUNDING = 1e-6
"""Possible rounding error, in full tasks, of the sum of a million fractions."""


def plan(
    sizes: npt.NDArray[np.int64], *, images_per_task: int, bytes_per_task: int, parallelism: int
) -> npt.NDArray[np.int64]:
    """Divide the listing into consecutive ranges of about equal work.

    The work of an image is the sum of 1/``images_per_task`` for the resize and the model, whose cost is the same for
    every image, and size/``bytes_per_task`` for reading and decoding. A range of work 1 is a full task.
    :func:`count_tasks` gives the number of ranges. Each border is placed where the work before it is nearest to its
    share, so that ranges differ by the work of one image at most.

    Parameters
    ----------
    sizes : ndarray of int64, shape (n,)
        Bytes to read of each image, in the order of the listing; n is at least 1.
    images_per_task, bytes_per_task : int
        Number of images and of bytes in a full task.
    parallelism : int
        Number of tasks that run at the same time.

    Returns
    -------
    ndarray of int64, shape (tasks + 1,)
        Strictly ascending from 0 to n: task i processes the rows from borders[i] to borders[i + 1].
    """
    work = np.cumsum(sizes / bytes_per_task + 1.0 / images_per_task)
    tasks = min(len(sizes), count_tasks(float(work[-1]), parallelism))
    shares = work[-1] * np.arange(1, tasks) / tasks
    after = np.searchsorted(work, shares)  # the image within which the share is reached
    before = np.where(after > 0, work[after - 1], 0.0)
    borders = after + (work[after] - shares < shares - before)
    # A few huge images among tiny ones would leave empty ranges: each border is moved beyond the previous one, and far
    # enough from the end.
    numbers = np.arange(1, tasks)
    borders = np.maximum.accumulate(borders - numbers) + numbers
    borders = np.minimum(np.maximum(borders, numbers), len(sizes) - tasks + numbers)
    return np.array([0, *borders, len(sizes)], np.int64)


def count_tasks(work: float, parallelism: int) -> int:
    """Return the number of tasks for an amount of work, as if work were divisible without limit.

    Much work is divided into full tasks. Little work is divided into smaller tasks: the same number for each core, at
    least two and, if there is enough work, eight.

    Parameters
    ----------
    work : float
        In full tasks.
    parallelism : int
        Number of tasks that run at the same time.
    """
    small = math.ceil(work * SMALL_TASKS_OF_A_FULL_ONE / parallelism)
    rounds = min(max(small, LEAST_TASKS_PER_CORE), MOST_SMALL_TASKS_PER_CORE)
    return max(math.ceil(work - ROUNDING), rounds * parallelism)
