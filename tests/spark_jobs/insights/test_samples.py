"""The samples of the report do not depend on the order of the photos or on their distribution to workers."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_jobs.insights import ends, reference
from spark_jobs.insights.reference import UNLIMITED, Photos, Reference

LABELS = st.lists(st.sampled_from("aaaaabbc"), min_size=1, max_size=60)


def photos(labels: list[str], seed: int) -> Photos:
    keys = np.random.default_rng(seed).permutation(len(labels)).astype(np.uint64)
    paths = np.array([f"{label}/{key}" for label, key in zip(labels, keys, strict=True)], object)
    return Photos(keys, paths, np.array(labels, object), keys[:, None].astype(np.float32))


def balanced(whole: Photos, most: int) -> set[str]:
    """Take a photo of each label in turn, by ascending key, as long as a whole round fits."""
    rows = sorted(zip(whole.keys.tolist(), whole.paths, whole.labels, strict=True))
    by_label = {label: [path for _, path, own in rows if own == label] for label in set(whole.labels)}
    chosen: set[str] = set()
    for position in range(len(whole)):
        taken = {members[position] for members in by_label.values() if position < len(members)}
        if len(chosen) + len(taken) > most:
            break
        chosen |= taken
    return chosen


@settings(max_examples=60, deadline=None)
@given(LABELS, st.integers(3, 40), st.integers(0, 1000), st.lists(st.integers(0, 60), max_size=4))
def test_the_reference_is_balanced_and_the_same_for_any_parts(
    labels: list[str], most: int, seed: int, cuts: list[int]
) -> None:
    whole = photos(labels, seed)
    bounds = sorted({0, len(labels), *(cut for cut in cuts if cut < len(labels))})
    parts = [whole.take(np.arange(start, end)) for start, end in itertools.pairwise(bounds)]
    balanced_parts = [reference.balance([Reference(part, UNLIMITED)], most) for part in parts]
    found = reference.balance(balanced_parts, most)
    assert set(found.photos.paths) == balanced(whole, most)
    assert len(found.photos) == len(balanced(whole, most))


def test_of_more_labels_than_photos_some_have_one_photo() -> None:
    whole = photos([f"label {number % 10}" for number in range(40)], 1)
    found = reference.balance([Reference(whole, UNLIMITED)], 4).photos
    counts = Counter(found.labels)
    assert len(found) == 4
    assert set(counts.values()) == {1}
    halves = [reference.balance([Reference(whole.take(rows), UNLIMITED)], 4) for rows in (slice(0, 17), slice(17, 40))]
    assert set(reference.balance(halves, 4).photos.paths) == set(found.paths)


@pytest.mark.parametrize("labels", [1, 2, 9])
def test_the_ends_of_a_component_are_its_extreme_photos_with_few_of_a_label(labels: int) -> None:
    random = np.random.default_rng(3)
    points = random.normal(size=(200, 7))
    points[:60, 0] += 5  # of one label
    names = [f"label {0 if row < 60 else row % labels}" for row in range(200)]
    paths = [f"{row:03d}" for row in range(200)]
    found = ends.merge([ends.find(paths[rows], names[rows], points[rows]) for rows in (slice(0, 31), slice(31, 200))])
    assert len(found) == 2 * ends.COMPONENTS
    for number, end in enumerate(found):
        scores = points[:, number // 2] * (-1 if number % 2 else 1)
        expected: list[int] = []
        for row in np.argsort(scores):
            if sum(names[other] == names[row] for other in expected) < ends.PER_LABEL:
                expected.append(int(row))
        assert [photo.path for photo in end] == [paths[row] for row in expected[: ends.PHOTOS]]
