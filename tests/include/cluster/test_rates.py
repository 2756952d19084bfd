"""Rates learned from earlier runs: medians of what they measured, and assumptions for the rest."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.cluster.rates import ASSUMED, IMAGES_PER_BYTE, learn_rates, read_outcome
from tests.include.run_records import manifest, run_record, sizing_record


def outcome(**changes: Any) -> Any:
    """40,000 photos in 100 s on 4 vCPUs: 100 images/s each."""
    return (
        sizing_record()["outcome"]
        | {
            "vcpus": 4,
            "images": 40_000,
            "bytes": 0,
            "listed": 1_000_000,
            "featurize_seconds": 100.0,
            "pca_seconds": 30.0,
            "start_and_stop_seconds": 600.0,
        }
        | changes
    )


def test_one_run_gives_its_own_rates() -> None:
    rates = learn_rates([outcome()])
    assert rates.images_per_second_per_vcpu == pytest.approx(100.0)
    assert rates.pca_seconds_per_image == pytest.approx(30e-6)
    assert rates.start_and_stop_seconds == 600.0
    assert rates.source == "the last 1 runs on AWS (images/s, pca, start and stop)"


def test_bytes_are_work_too() -> None:
    """The same time for photos that are twice the work: twice the speed."""
    rates = learn_rates([outcome(bytes=round(40_000 / IMAGES_PER_BYTE))])
    assert rates.images_per_second_per_vcpu == pytest.approx(200.0, rel=1e-6)


def test_run_that_is_too_small_to_tell_leaves_the_assumption() -> None:
    rates = learn_rates([outcome(images=9_999, listed=99_999)])
    assert rates.images_per_second_per_vcpu == ASSUMED.images_per_second_per_vcpu
    assert rates.pca_seconds_per_image == ASSUMED.pca_seconds_per_image
    assert rates.start_and_stop_seconds == 600.0
    assert rates.source == "the last 1 runs on AWS (start and stop); assumed: images/s, pca"


def test_without_runs_everything_is_assumed() -> None:
    assert learn_rates([]) == ASSUMED
    assert learn_rates([outcome(images=0, listed=0, start_and_stop_seconds=None)]) == ASSUMED


def test_a_single_slow_run_changes_nothing() -> None:
    slow = outcome(featurize_seconds=5_000.0, pca_seconds=900.0, start_and_stop_seconds=5_000.0)
    assert learn_rates([outcome(), slow, outcome()]) == learn_rates([outcome()] * 3)


def test_a_large_run_tells_more_than_small_ones() -> None:
    small = outcome(images=10_000, featurize_seconds=100.0)
    large = outcome(images=1_000_000, featurize_seconds=2_500.0)
    assert learn_rates([small, small, large]).images_per_second_per_vcpu == pytest.approx(100.0)


runs = st.lists(
    st.builds(
        lambda images, seconds, wait: outcome(images=images, featurize_seconds=seconds, start_and_stop_seconds=wait),
        st.integers(10_000, 10**7),
        st.floats(1, 1e5),
        st.floats(1, 1e4),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=50, deadline=None)
@given(runs, st.randoms(use_true_random=False))
def test_rates_are_between_those_of_the_runs_in_any_order(found: list[Any], shuffle: random.Random) -> None:
    rates = learn_rates(found)
    speeds = [run["images"] / run["featurize_seconds"] / run["vcpus"] for run in found]
    waits = [run["start_and_stop_seconds"] for run in found]
    assert min(speeds) <= rates.images_per_second_per_vcpu * (1 + 1e-9)
    assert rates.images_per_second_per_vcpu <= max(speeds) * (1 + 1e-9)
    assert min(waits) <= rates.start_and_stop_seconds <= max(waits)
    shuffled = list(found)
    shuffle.shuffle(shuffled)
    assert learn_rates(shuffled) == rates


def on_aws(**changes: Any) -> Any:
    return json.loads(json.dumps(manifest(run=run_record(profile="aws")) | changes))


def test_outcome_of_a_run_on_aws_is_read_and_that_of_a_local_run_is_not() -> None:
    found = on_aws()
    assert read_outcome(found) == found["sizing"]["outcome"]
    assert read_outcome(manifest()) is None


@pytest.mark.parametrize(
    "change",
    [
        {"sizing": "garbage"},
        {"sizing": {}},
        {"sizing": {"outcome": None}},
        {"sizing": {"outcome": outcome(vcpus="4")}},
        {"sizing": {"outcome": outcome(images=-1)}},
        {"sizing": {"outcome": outcome(featurize_seconds="soon")}},
        {"sizing": {"outcome": outcome(pca_seconds=None)}},
        {"sizing": {"outcome": outcome(start_and_stop_seconds=float("nan"))}},
    ],
)
def test_damaged_outcome_is_an_error_that_says_why(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"no outcome that can be read|instead of"):
        read_outcome(on_aws() | change)
