"""The sample is the same however the images are ordered, cut and shared out, and any image may be in it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_jobs.quality import sampling
from spark_jobs.quality.sampling import Sample

PATHS = [f"s3://bucket/data/Apple {number % 7}/crème {number}.jpg" for number in range(3000)]
LABELS = [f"Apple {number % 7}" for number in range(3000)]
VECTORS = np.arange(3000 * 2, dtype=np.float32).reshape(3000, 2)


def draw(order: np.ndarray, cuts: list[int], sample_images: int, seed: int = 7) -> Sample:
    """Draw a sample as the job does: every part takes its own, in some order, and they are merged."""
    largest_key = sampling.limit(len(order), sample_images)
    samples = [
        sampling.select(
            [PATHS[row] for row in rows],
            [LABELS[row] for row in rows],
            VECTORS[rows],
            seed=seed,
            largest_key=largest_key,
        )
        for rows in np.split(order, cuts)
    ]
    return sampling.merge(samples, sample_images)


def equal(a: Sample, b: Sample) -> bool:
    return np.array_equal(a.keys, b.keys) and a.labels == b.labels and np.array_equal(a.vectors, b.vectors)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 400), max_size=9).map(sorted),
    st.integers(1, 500),
)
def test_order_and_cuts_do_not_matter(seed: int, cuts: list[int], sample_images: int) -> None:
    whole = draw(np.arange(400), [], sample_images)
    order = np.random.default_rng(seed).permutation(400)
    assert equal(draw(order, cuts, sample_images), whole)


def test_the_sample_is_the_images_with_the_smallest_keys_with_their_own_labels_and_vectors() -> None:
    sample = draw(np.arange(3000), [1000, 1001], 100)
    by_key = sorted(range(3000), key=lambda row: sampling.keys([PATHS[row]], 7)[0])[:100]
    assert sample.labels == tuple(LABELS[row] for row in by_key)
    np.testing.assert_array_equal(sample.vectors, VECTORS[by_key])
    assert sample.vectors.dtype == np.float32
    assert (np.diff(sample.keys.astype(object)) > 0).all()


def test_a_part_hands_on_what_has_the_limit_as_its_key_and_below_by_ascending_key() -> None:
    found = sampling.keys(PATHS, 7)
    largest_key = int(np.sort(found)[41])
    taken = sampling.select(PATHS, LABELS, VECTORS, seed=7, largest_key=largest_key)
    assert len(taken) == 42
    assert taken.keys[-1] == largest_key
    np.testing.assert_array_equal(taken.keys, np.sort(found)[:42])
    np.testing.assert_array_equal(taken.vectors, VECTORS[np.argsort(found)[:42]])


def test_a_key_is_blake2b_of_the_path_and_the_seed_alone() -> None:
    secret = hashlib.blake2b(b"12").digest()
    expected = hashlib.blake2b("é".encode(), digest_size=8, key=secret).digest()
    assert sampling.keys(["x", "é"], 12)[1] == int.from_bytes(expected, "little")


@pytest.mark.parametrize("seed", [0, 1, 10**40])
def test_every_seed_draws_another_sample(seed: int) -> None:
    first, other = draw(np.arange(3000), [], 300, seed), draw(np.arange(3000), [], 300, seed + 1)
    shared = {tuple(row) for row in first.vectors} & {tuple(row) for row in other.vectors}
    # 30 of 300 by chance, with a standard deviation of 5.
    assert 5 < len(shared) < 60


def test_every_image_is_in_the_sample_with_the_same_probability() -> None:
    """By the halves and the quarters of the keys: 6 standard deviations of a binomial, on a fixed seed."""
    found = sampling.keys(PATHS, 3)
    for bits in (1, 2):
        counts = np.bincount((found >> np.uint64(64 - bits)).astype(int), minlength=2**bits)
        share = 1 / 2**bits
        assert (np.abs(counts - 3000 * share) < 6 * np.sqrt(3000 * share * (1 - share))).all()


def test_no_more_images_than_wanted_are_all_in_the_sample() -> None:
    for images in (1, 2, 99, 100):
        assert len(draw(np.arange(images), [], 100)) == images
    assert sampling.limit(100, 100) == 2**64 - 1, "the largest key there is has to be taken, too"


@pytest.mark.parametrize("wanted", [1, 5, 100, 2000])
def test_the_limit_lets_enough_through_and_not_many_more(wanted: int) -> None:
    images = 1_000_000
    expected = images * sampling.limit(images, wanted) / 2**64
    # The wanted number is 6 standard deviations of a Poisson variable below the expected one.
    assert expected - 6 * np.sqrt(expected) == pytest.approx(wanted, abs=1e-3)
    for seed in range(20):
        assert len(draw(np.arange(3000), [], wanted, seed)) == min(wanted, 3000)


def test_parts_without_images_of_the_sample_change_nothing() -> None:
    order = np.arange(3000)
    nothing = Sample(np.empty(0, np.uint64), (), np.empty((0, 2), np.float32))
    assert equal(sampling.merge([nothing, draw(order, [], 10), nothing], 10), draw(order, [], 10))
    assert len(sampling.merge([nothing], 10)) == 0


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a sample of 0 images: expected 1 or more"):
        sampling.limit(10, 0)
