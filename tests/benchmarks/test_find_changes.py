from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks import find_changes, process
from benchmarks.s3_listing import Keys
from benchmarks.table import Bench
from spark_jobs.lake import schemas

COUNT = 4_100


def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, 0, tmp_path, tmp_path, tmp_path / "work", "local[1]", sizes=(COUNT,))


def test_the_published_listing_differs_by_one_percent_and_is_in_order(tmp_path: Path) -> None:
    keys = Keys(COUNT)
    find_changes.write_listing(tmp_path / "listing.parquet", keys)
    table = pq.read_table(tmp_path / "listing.parquet")
    assert table.schema.equals(schemas.LISTING)
    paths = table["path"].to_pylist()
    assert paths == sorted(paths)
    assert len(set(paths)) == len(paths)
    now = {f"s3://many/{keys[index]}": f"{index:032x}" for index in range(COUNT)}
    before = dict(zip(paths, table["etag"].to_pylist(), strict=True))
    assert {
        "listed": len(now),
        "new": len(now.keys() - before.keys()),
        "changed": sum(before[path] != now[path] for path in now.keys() & before.keys()),
        "gone": len(before.keys() - now.keys()),
        "work": len(now.keys() - before.keys()) + sum(before[path] != now[path] for path in now.keys() & before.keys()),
    } == find_changes.expected(COUNT)
    expected = find_changes.expected(1_000_000)
    assert expected["new"] + expected["changed"] + expected["gone"] == 10_000


@pytest.mark.slow
def test_both_ways_find_the_changes_in_a_new_process(tmp_path: Path) -> None:
    result = find_changes.measure(bench(tmp_path))
    (size,) = result["sizes"]
    assert size["keys"] == COUNT
    for side in size["sides"].values():
        assert side["seconds"] > 0
        assert side["memory_mib"] >= side["memory_before_mib"] > 0
    assert [line.split("|")[2].strip() for line in find_changes.lines(result)[2:]] == list(find_changes.SIDES)
    assert not list((tmp_path / "work").glob("*.parquet"))


def test_other_changes_than_expected_fail_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**find_changes.expected(COUNT), "gone": 3}
    measured = type("Measured", (), {"figures": {**found, "seconds": 1.0}})()
    monkeypatch.setattr(process, "measure_module", lambda *_, **options: measured)
    monkeypatch.setattr(find_changes, "ListingServer", NoServer)
    with pytest.raises(SystemExit, match=r"4100 keys, sorted: found .*'gone': 3.*expected"):
        find_changes.run_find(tmp_path, tmp_path / "listing", COUNT, "sorted")


class NoServer:
    url = "http://127.0.0.1:1"

    def __init__(self, count: int) -> None:
        pass

    def __enter__(self) -> NoServer:
        return self

    def __exit__(self, *error: object) -> None:
        pass


def test_a_missed_goal_is_shown() -> None:
    side: dict[str, Any] = {"seconds": 12.3, "cpu_seconds": 10.0, "memory_mib": 300, "memory_before_mib": 90}
    sizes = [{"keys": 1_000_000, "sides": {"in order": side, "sorted": {**side, "memory_mib": 1_025}}}]
    first, second = find_changes.lines({"goal_memory_mib": 1_024, "sizes": sizes})[2:]
    assert "300 (reached)" in first
    assert "1025 (MISSED)" in second
