"""Photos in an S3 store that answers each GET after 30 ms: the featurize rate as a share of that on local files.

The same photos are featurized from the local disk and from S3 alternately. The run's folder is always on the local
disk, so that only the reading of images differs. A proxy in front of the store adds the delay. It also caches the
objects, since the store would compete with the job for the cores; its CPU time is reported. Rates are marginal, between
two sizes, so that they exclude the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import object_store, photos, pipeline
from benchmarks.compute import check_rows, check_sizes
from benchmarks.object_store import BUCKET
from benchmarks.rates import marginal_rate, median
from benchmarks.s3_proxy import S3Proxy
from benchmarks.table import Bench, markdown

DESCRIPTION = "our featurize step on photos in an S3 store that answers after 30 ms, against local files"

LAPS = 3
SIZES = (1_000, 5_000)
DELAY_SECONDS = 0.030
GOAL_SHARE = 0.85
SEQUENTIAL_DIVISOR = 4
"""Sequential reads are slow, so that side processes a fraction of the photos."""


@dataclass(frozen=True)
class Side:
    """A way to read the same photos.

    Attributes
    ----------
    name : str
        Name in the table and in results.
    delay_seconds : float or None
        Delay of each GET; None for local files.
    options : mapping
        More arguments of the job.
    divisor : int
        The sizes are divided by this number.
    """

    name: str
    delay_seconds: float | None
    options: Mapping[str, Any] = field(default_factory=dict)
    divisor: int = 1


LOCAL = "local files"
DELAYED = f"S3, {DELAY_SECONDS * 1000:.0f} ms a GET"
SIDES = (
    Side(LOCAL, None),
    Side("S3, no delay", 0.0),
    Side(DELAYED, DELAY_SECONDS),
    Side(f"{DELAYED}, one after another", DELAY_SECONDS, {"reads_in_flight": 1}, SEQUENTIAL_DIVISOR),
)


def measure(bench: Bench) -> dict[str, Any]:
    """Measure all sides in turn.

    Raises
    ------
    SystemExit
        If a photo has no features, the times give no rate, or the proxy did not serve all photos from its cache.
    """
    sizes = check_sizes(bench.sizes or SIZES)[-2:]
    folders = photos.prepare(bench, sorted({size // side.divisor for side in SIDES for size in sizes}))
    laps: dict[str, list[dict[int, dict[str, Any]]]] = {side.name: [] for side in SIDES}
    with object_store.started(bench.work) as store, S3Proxy(store.url, cache=True) as proxy:
        for size, folder in folders.items():
            object_store.read_all(proxy.url, store.upload(folder, str(size)))
        for number in range(bench.laps or LAPS):
            for side in SIDES:
                own_sizes = [size // side.divisor for size in sizes]
                lap = {size: run_step(bench, side, size, folders[size], proxy, number) for size in own_sizes}
                laps[side.name].append(lap)
                shown = ", ".join(f"{size} photos {step['seconds']:.1f} s" for size, step in lap.items())
                print(f"{side.name}, lap {number + 1}: {shown}", flush=True)
    sides = {name: summarize(each) for name, each in laps.items()}
    local = sides[LOCAL]["marginal_images_per_second"]
    for summary in sides.values():
        summary["share_of_local"] = round(summary["marginal_images_per_second"] / local, 3)
    return {"delay_seconds": DELAY_SECONDS, "goal_share": GOAL_SHARE, "sides": sides}


def run_step(bench: Bench, side: Side, size: int, folder: Path, proxy: S3Proxy, lap: int) -> dict[str, Any]:
    """Featurize the photos of a folder or the same photos in the store, and return the figures of step and proxy."""
    name = f"{side.name}-{lap}-{size}".replace(" ", "-").replace(",", "")
    if side.delay_seconds is None:
        step = pipeline.featurize(bench, folder, name, options=side.options)
    else:
        proxy.set_delay(side.delay_seconds)
        proxy.reset_counts()
        environ = object_store.environment(proxy.url, bench.work)
        step = pipeline.featurize(bench, f"s3://{BUCKET}/{size}", name, options=side.options, environ=environ)
        step["proxy"] = proxy_figures(proxy, size)
    check_rows(step["summary"], size)
    return step


def proxy_figures(proxy: S3Proxy, size: int) -> dict[str, Any]:
    """Return the counts of the proxy.

    Raises
    ------
    SystemExit
        If an object was not read through the proxy, or the proxy read it from the store instead of its cache.
    """
    counts = proxy.counts()
    reads = {key: number for (method, key), number in counts.requests.items() if method == "GET" and key}
    if len(reads) != size:
        raise SystemExit(f"{len(reads)} objects were read through the proxy, expected {size}")
    others = sum(number for (method, key), number in counts.requests.items() if method != "GET" or not key)
    if counts.passed_on > others:
        raise SystemExit(
            f"the proxy read {counts.passed_on - others} objects from the store: expected all in its cache"
        )
    figures = {name: value for name, value in asdict(counts).items() if name != "requests"}
    return {**figures, "reads": sum(reads.values()), "other_requests": others}


def summarize(laps: list[dict[int, dict[str, Any]]]) -> dict[str, Any]:
    """Return the medians of a side's laps, the marginal rate between them, and the largest peaks."""
    fewer, more = sorted(laps[0])
    seconds = {size: median(lap[size]["seconds"] for lap in laps) for size in (fewer, more)}
    steps = [lap[more] for lap in laps]
    summary = {
        "sizes": [fewer, more],
        "laps": [{str(size): step["seconds"] for size, step in lap.items()} for lap in laps],
        "seconds": {str(size): value for size, value in seconds.items()},
        "marginal_images_per_second": round(marginal_rate(fewer, seconds[fewer], more, seconds[more]), 2),
        "list_seconds": median(step["summary"]["seconds"]["list"] for step in steps),
        "featurize_seconds": median(step["summary"]["seconds"]["featurize"] for step in steps),
        "peak_memory_mib": max(step["peak_memory_mib"] for step in steps),
    }
    if "proxy" in steps[0]:
        names = ("reads", "requests_in_flight", "bytes_in_flight", "cpu_seconds")
        summary["proxy"] = {name: round(max(step["proxy"][name] for step in steps), 3) for name in names}
        arguments = steps[0]["summary"]["arguments"]
        summary["arguments"] = {name: arguments[name] for name in ("reads_in_flight", "read_bytes_in_flight")}
    return summary


def lines(result: dict[str, Any]) -> list[str]:
    """Return the sides as a table."""
    header = [
        *("photos in", "images", "seconds", "marginal images/s", "share of local", "max. GETs in flight"),
        *("max. KiB in flight", "peak MiB", "proxy's CPU s"),
    ]
    rows = []
    for name, side in result["sides"].items():
        size = side["sizes"][-1]
        proxy = side.get("proxy")
        rows.append(
            [
                name,
                f"{size:,}",
                f"{side['seconds'][str(size)]:.1f}",
                f"{side['marginal_images_per_second']:.1f}",
                f"{side['share_of_local']:.1%}",
                str(proxy["requests_in_flight"]) if proxy else "",
                f"{proxy['bytes_in_flight'] / 1024:.0f}" if proxy else "",
                str(side["peak_memory_mib"]),
                f"{proxy['cpu_seconds']:.1f}" if proxy else "",
            ]
        )
    goal = f"Goal: {result['goal_share']:.0%} of local with a delay of {result['delay_seconds'] * 1000:.0f} ms."
    return [*markdown(header, rows), "", goal]
