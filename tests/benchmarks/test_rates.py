from __future__ import annotations

import pytest

from benchmarks.rates import fixed_seconds, marginal_rate, median


def test_two_sizes_give_rate_and_fixed_cost() -> None:
    # 7 s of fixed cost and 200 images a second, by hand.
    seconds = {5_000: 7 + 25.0, 20_000: 7 + 100.0}
    rate = marginal_rate(5_000, seconds[5_000], 20_000, seconds[20_000])
    assert rate == pytest.approx(200)
    for count, value in seconds.items():
        assert fixed_seconds(count, value, rate) == pytest.approx(7)


def test_sizes_that_give_no_rate_are_refused() -> None:
    with pytest.raises(SystemExit, match="measure on a quiet machine"):
        marginal_rate(100, 9.0, 200, 9.0)
    with pytest.raises(ValueError, match="are not more than"):
        marginal_rate(100, 9.0, 100, 10.0)


def test_the_median_is_not_moved_by_one_bad_lap() -> None:
    assert median([10.0, 11.1234, 99.0]) == 11.123
