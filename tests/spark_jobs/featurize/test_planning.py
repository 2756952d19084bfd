"""Planning: every image is in one task, and tasks do the same work, whatever sizes and folders there are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spark_jobs.featurize.planning import count_tasks, plan

sizes_of_files = st.lists(st.sampled_from([0, 1, 5_000, 5_001, 4_000_000, 60_000_000]), min_size=1, max_size=80)


def work(sizes: np.ndarray, images_per_task: int, bytes_per_task: int) -> np.ndarray:
    return 1 / images_per_task + sizes / bytes_per_task


@given(sizes_of_files, st.integers(1, 50), st.integers(1, 10**9), st.integers(1, 20))
def test_every_image_is_in_one_task_and_no_task_is_empty(
    sizes: list[int], images: int, size: int, parallelism: int
) -> None:
    borders = plan(np.array(sizes), images_per_task=images, bytes_per_task=size, parallelism=parallelism)
    assert borders[0] == 0
    assert borders[-1] == len(sizes)
    assert (np.diff(borders) > 0).all()


@given(arrays(np.int64, st.integers(100, 400), elements=st.integers(0, 100_000)), st.integers(1, 6))
def test_tasks_differ_by_the_work_of_one_image_at_most(sizes: np.ndarray, parallelism: int) -> None:
    each = work(sizes, 10_000, 10**9)
    borders = plan(sizes, images_per_task=10_000, bytes_per_task=10**9, parallelism=parallelism)
    assert len(borders) - 1 == 2 * parallelism
    tasks = np.add.reduceat(each, borders[:-1])
    assert tasks.max() - tasks.min() <= 2 * each.max() + 1e-9


@pytest.mark.parametrize(
    ("count", "size", "tasks"),
    [
        (960, 5_000, 4),  # two a core
        (5_000, 5_000, 6),  # of some ten seconds each, the same number for each core
        (24_000, 5_000, 16),  # two full tasks of work, but eight a core show progress
        (1_200_000, 5_000, 102),  # a hundred by count, and 6 GB more
        (40_000, 4 * 2**20, 43),  # 160 GiB: by bytes
        (3, 5_000, 3),
        (1, 0, 1),
    ],
)
def test_tasks_are_sized_by_count_and_bytes(count: int, size: int, tasks: int) -> None:
    found = plan(np.full(count, size), images_per_task=12_000, bytes_per_task=4 * 2**30, parallelism=2)
    assert len(found) - 1 == tasks


def test_an_exact_number_of_full_tasks_is_not_rounded_up() -> None:
    sizes = np.zeros(3_600_000, np.int64)
    assert len(plan(sizes, images_per_task=12_000, bytes_per_task=1, parallelism=1)) - 1 == 300


def test_a_label_with_most_of_the_images_or_of_the_bytes_does_not_skew_tasks() -> None:
    random = np.random.default_rng(4)
    sizes = np.concatenate([random.integers(3_000, 6_000, 90_000), random.integers(2_000_000, 6_000_000, 10_000)])
    each = work(sizes, 12_000, 4 * 2**30)
    borders = plan(sizes, images_per_task=12_000, bytes_per_task=4 * 2**30, parallelism=4)
    tasks = np.add.reduceat(each, borders[:-1])
    assert tasks.max() / tasks.min() < 1.01
    assert np.diff(borders).max() > 5 * np.diff(borders).min()  # by count they differ, as they should


def test_the_plan_is_the_same_each_time() -> None:
    sizes = np.random.default_rng(5).integers(0, 10**7, 5_000)
    first, second = (plan(sizes, images_per_task=100, bytes_per_task=10**8, parallelism=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@given(st.floats(0.001, 1000), st.integers(1, 100))
def test_few_tasks_are_the_same_number_for_each_core_and_full_ones_no_more_than_full(
    work: float, parallelism: int
) -> None:
    tasks = count_tasks(work, parallelism)
    assert work / tasks <= 1 + 1e-6
    if tasks < 8 * parallelism:
        assert tasks % parallelism == 0
        assert tasks >= 2 * parallelism
