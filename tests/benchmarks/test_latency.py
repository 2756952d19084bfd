from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import latency, pipeline
from benchmarks.s3_proxy import Counts
from benchmarks.table import Bench
from tests.end_to_end.conftest import put_pictures


class Proxy:
    """A proxy with these counts."""

    def __init__(self, requests: dict[tuple[str, str], int], passed_on: int) -> None:
        self._counts = Counts(
            requests=requests,
            faults=0,
            passed_on=passed_on,
            bytes_sent=10,
            requests_in_flight=3,
            bytes_in_flight=9,
            cpu_seconds=0.5,
        )

    def counts(self) -> Counts:
        return self._counts


LISTING = {("GET", ""): 2, ("HEAD", "photos"): 1}


def test_only_objects_of_the_photos_count_as_reads() -> None:
    figures = latency.proxy_figures(Proxy({**LISTING, ("GET", "a"): 1, ("GET", "b"): 2}, passed_on=3), 2)
    assert (figures["reads"], figures["other_requests"], figures["bytes_in_flight"]) == (3, 3, 9)


def test_a_photo_that_was_not_read_through_the_proxy_fails_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="1 objects were read through the proxy, expected 2"):
        latency.proxy_figures(Proxy({**LISTING, ("GET", "a"): 1}, passed_on=3), 2)


def test_a_photo_that_was_read_from_the_store_fails_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="read 1 objects from the store"):
        latency.proxy_figures(Proxy({**LISTING, ("GET", "a"): 1}, passed_on=4), 1)


def step(seconds: float, proxy: dict[str, Any] | None) -> dict[str, Any]:
    summary = {
        "seconds": {"list": 0.1, "featurize": seconds - 7},
        "arguments": {"reads_in_flight": 32, "read_bytes_in_flight": 2**26},
    }
    return {"seconds": seconds, "peak_memory_mib": 900, "summary": summary, **({"proxy": proxy} if proxy else {})}


def test_a_side_is_summarized_by_its_marginal_rate_and_its_worst_peaks() -> None:
    counted = [
        {"reads": 500, "requests_in_flight": most, "bytes_in_flight": most * 1024, "cpu_seconds": 0.1}
        for most in (60, 64)
    ]
    side = latency.summarize([{100: step(8.0, each), 500: step(10.0, each)} for each in counted])
    assert side["marginal_images_per_second"] == 200
    assert side["proxy"] == {"reads": 500, "requests_in_flight": 64, "bytes_in_flight": 65536, "cpu_seconds": 0.1}
    local = latency.summarize([{100: step(8.0, None), 500: step(10.0, None)}])
    assert "proxy" not in local
    shown = latency.lines(
        {
            "sides": {"local files": {**local, "share_of_local": 1.0}, "S3": {**side, "share_of_local": 0.875}},
            "goal_share": 0.85,
            "delay_seconds": 0.03,
        }
    )
    assert [word in shown[3] for word in ("S3", "87.5%", "64", "200.0")] == [True] * 4
    assert shown[-1] == "Goal: 85% of local with a delay of 30 ms."


@pytest.mark.soak
def test_the_photos_of_every_side_are_featurized(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with a few photos. Its times are replaced: differences of so few photos are noise."""
    put_pictures(tmp_path / "photos")
    work = tmp_path / "latency"
    pipeline.write_code(work)
    [model] = (file.parent for file in models.glob("*/model.json"))
    featurize = pipeline.featurize

    def timed(bench: Bench, images: Path | str, name: str, **options: Any) -> dict[str, Any]:
        return featurize(bench, images, name, **options) | {"seconds": 5.0 + int(name.rpartition("-")[2]) / 100}

    monkeypatch.setattr(pipeline, "featurize", timed)
    bench = Bench(tmp_path / "photos", 25, model, tmp_path, work, "local[1]", laps=1, sizes=(4, 12))
    sides = latency.measure(bench)["sides"]
    assert list(sides) == [side.name for side in latency.SIDES]
    assert {side["share_of_local"] for side in sides.values()} == {1.0}
    reads = [side["proxy"]["reads"] for side in sides.values() if "proxy" in side]
    assert reads == [12, 12, 3], "each photo was read once, through the proxy"
    in_flight = [side["proxy"]["requests_in_flight"] for side in sides.values() if "proxy" in side]
    assert in_flight[-1] == 1, "one after another"
