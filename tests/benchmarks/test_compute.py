from __future__ import annotations

import os
from typing import Any

import pytest

from benchmarks import compute, cores


def step(size: int, seconds: float) -> dict[str, Any]:
    """A step that took 3 s outside of the job and, within it, 2 s to start and 0.5 s to count."""
    stages = {"start": 2.0, "list": 0.25, "featurize": seconds - 6.75, "write": 1.0, "total": seconds - 3.0}
    return {
        "seconds": seconds,
        "peak_memory_mib": size // 10,
        "summary": {"listed": size, "features": size, "rejects": 0, "seconds": stages},
    }


def lap(seconds: dict[int, float], plain: float, jobs: float) -> dict[str, Any]:
    return {
        "bare": {"plain": plain, "jobs": jobs},
        "steps": {size: step(size, value) for size, value in seconds.items()},
    }


@pytest.fixture
def result() -> dict[str, Any]:
    two = [
        lap({1_000: 12.0, 5_000: 32.0, 20_000: 107.0}, 220.0, 210.0),
        lap({1_000: 99.0, 5_000: 31.0, 20_000: 107.0}, 100.0, 90.0),
        lap({1_000: 11.0, 5_000: 33.0, 20_000: 108.0}, 225.0, 215.0),
    ]
    one = [lap({1_000: 20.0, 5_000: 60.0}, 110.0, 115.0)]
    sides = [compute.summarize(2, (1_000, 5_000, 20_000), two), compute.summarize(1, (1_000, 5_000), one)]
    return {
        "sides": sides,
        "speed_up": compute.speed_up(sides),
        "goal_share": compute.GOAL_SHARE,
        "goal_fixed": compute.GOAL_FIXED_SECONDS,
    }


def test_rate_share_and_fixed_cost_come_from_the_medians(result: dict[str, Any]) -> None:
    two, one = result["sides"]
    # Medians 32 s and 107 s: 15,000 photos in 75 s are 200 a second, and 32 - 25 s are left.
    assert two["marginal_between"] == [5_000, 20_000]
    assert two["marginal_images_per_second"] == 200
    assert two["fixed_seconds"] == 7
    assert two["share_of_bare"] == pytest.approx(200 / 220, abs=1e-3)
    # 4,000 photos in 40 s, against the faster of the two loops.
    assert one["marginal_images_per_second"] == 100
    assert one["share_of_bare"] == pytest.approx(100 / 115, abs=1e-3)
    assert [size["ms_per_image_without_fixed"] for size in two["sizes"]] == [5.0, 5.0, 5.0]
    assert result["speed_up"] == {"images": 5_000, "wall": 1.88, "marginal": 2.0, "bare": 2.0}


def test_the_stages_add_up_to_the_wall_clock(result: dict[str, Any]) -> None:
    largest = result["sides"][0]["sizes"][-1]
    assert largest["stages"]["counts and summary"] == pytest.approx(0.5)
    assert largest["stages"]["JVM, imports and end"] == pytest.approx(3.0)
    assert sum(largest["stages"].values()) == pytest.approx(largest["seconds"])
    side = result["sides"][0]
    assert side["fixed_by_stage"]["featurize"] == pytest.approx(32 - 6.75 - 25)
    assert sum(side["fixed_by_stage"].values()) == pytest.approx(side["fixed_seconds"])


def test_the_tables_show_all_of_it(result: dict[str, Any]) -> None:
    text = "\n".join(compute.lines(result))
    for figure in ("2 core(s), 20,000", "107.0", "90.9%", "1.88 times", "JVM, imports and end"):
        assert figure in text


@pytest.mark.parametrize(("features", "rejects"), [(9, 1), (9, 0), (0, 0)])
def test_photos_without_features_fail_the_benchmark(features: int, rejects: int) -> None:
    with pytest.raises(SystemExit, match=f"10 photos gave listed 10, features {features}, rejects {rejects}"):
        compute.check_rows({"listed": 10, "features": features, "rejects": rejects}, 10)
    compute.check_rows({"listed": 10, "features": 10, "rejects": 0}, 10)


def test_one_size_is_refused() -> None:
    with pytest.raises(SystemExit, match="two sizes or more"):
        compute.check_sizes((100,))


def test_pinned_cores_are_given_back() -> None:
    before = os.sched_getaffinity(0)
    with cores.pinned(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
    with pytest.raises(SystemExit, match="cores requested"), cores.pinned(len(before) + 1):
        pass
