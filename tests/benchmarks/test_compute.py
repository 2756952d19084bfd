from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compute, cores, photos, pipeline
from benchmarks.table import Bench

SIZES = (1_000, 5_000, 20_000)
SECONDS = {
    2: {1_000: (12.0, 99.0, 11.0), 5_000: (32.0, 31.0, 33.0), 20_000: (107.0, 107.0, 108.0)},
    1: {1_000: (20.0, 19.0, 21.0), 5_000: (61.0, 60.0, 59.0)},
}
"""Duration of the step by number of cores, number of photos, and lap."""

BARE = {
    2: ({"plain": 220.0, "jobs": 210.0}, {"plain": 100.0, "jobs": 90.0}, {"plain": 225.0, "jobs": 215.0}),
    1: ({"plain": 110.0, "jobs": 115.0},) * 3,
}
"""Photos per second of the bare loops by number of cores and lap."""


def step(size: int, seconds: float) -> dict[str, Any]:
    """Return a step with 3 s outside the job, and with 2 s for the start and 0.5 s for the counts inside the job."""
    stages = {"start": 2.0, "list": 0.25, "featurize": seconds - 6.75, "write": 1.0, "total": seconds - 3.0}
    return {
        "seconds": seconds,
        "peak_memory_mib": size // 10,
        "summary": {"listed": size, "features": size, "rejects": 0, "seconds": stages},
    }


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The result of three laps on two cores and on one core, with the given durations and rates."""
    folders = {size: tmp_path / str(size) for size in SIZES}

    def featurize(bench: Bench, folder: Path, name: str) -> dict[str, Any]:
        count, lap, size = int(name[0]), int(name.split("-")[2]), int(folder.name)
        assert (bench.master, folder) == (f"local[{count}]", folders[size])
        return step(size, SECONDS[count][size][lap])

    def run_bare_loop(bench: Bench, folder: Path, photos: int, processes: int) -> dict[str, float]:
        assert folder == folders[max(SECONDS[processes])], "both sides get the same photos"
        return next(bare[processes])

    bare = {count: iter(laps) for count, laps in BARE.items()}
    monkeypatch.setattr(cores, "available", lambda: [0, 1])
    monkeypatch.setattr(cores, "pinned", nullcontext)
    monkeypatch.setattr(photos, "prepare", lambda bench, sizes: folders)
    monkeypatch.setattr(pipeline, "featurize", featurize)
    monkeypatch.setattr(compute, "run_bare_loop", run_bare_loop)
    return compute.measure(Bench(tmp_path, 7, tmp_path, tmp_path, tmp_path, "local[*]", sizes=SIZES))


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


def test_the_tables_show_sizes_rates_and_stages(result: dict[str, Any]) -> None:
    text = "\n".join(compute.lines(result))
    for figure in ("2 core(s), 20,000", "107.0", "90.9%", "1.88 times", "JVM, imports and end"):
        assert figure in text


def test_photos_without_features_fail_the_benchmark() -> None:
    for features, rejects in ((9, 1), (9, 0), (0, 0)):
        with pytest.raises(SystemExit, match=f"10 photos gave listed 10, features {features}, rejects {rejects}"):
            compute.check_rows({"listed": 10, "features": features, "rejects": rejects}, 10)
    compute.check_rows({"listed": 10, "features": 10, "rejects": 0}, 10)


def test_one_size_is_refused() -> None:
    with pytest.raises(SystemExit, match="two sizes or more"):
        compute.check_sizes((100,))


def test_pinned_cores_are_restored() -> None:
    before = os.sched_getaffinity(0)
    with cores.pinned(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
    with pytest.raises(SystemExit, match="cores requested"), cores.pinned(len(before) + 1):
        pass
