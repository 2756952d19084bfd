"""A million objects: the duration of listing and of planning, and the driver's memory.

The local folder has hard links to a few small files. The S3 bucket is a server that generates keys and lists a thousand
per page, as S3 does. The server is local and fast: the seconds exclude the response time of S3, so the number of
requests is reported too. One label has 90 % of the objects.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from benchmarks import object_store, pipeline, process
from benchmarks.s3_listing import LABELS, Keys, ListingServer
from benchmarks.table import Bench, markdown

DESCRIPTION = "listing, planning and driver memory for a million objects, one label with 90 % of them"

COUNT = 1_000_000
SOURCES = 64
"""Number of files that the links point to: ext4 allows 65,000 hard links per file."""

SOURCE_BYTES = 1_500
CORES = 2
GOAL_MEMORY_MIB = 2_048


def measure(bench: Bench) -> dict[str, Any]:
    """Measure a local folder and an S3 bucket.

    Raises
    ------
    SystemExit
        If an object is not listed, or is not read by exactly one task.
    """
    count = max(bench.sizes, default=COUNT)
    folder = bench.work / "many"
    make_files(folder, count)
    sides = {"local folder": run_driver(bench, folder.as_uri(), "local", {}, count)}
    print(f"local folder: {side_text(sides['local folder'])}", flush=True)
    with ListingServer(count) as server:
        environ = object_store.environment(server.url, bench.work)
        sides["S3"] = run_driver(bench, "s3://many/data", "s3", environ, count)
        sides["S3"]["requests"] = server.requests()
    print(f"S3: {side_text(sides['S3'])}", flush=True)
    return {"objects": count, "labels": LABELS, "goal_memory_mib": GOAL_MEMORY_MIB, "sides": sides}


def make_files(folder: Path, count: int) -> None:
    """Create small, non-empty files with the same names as the keys of the simulated S3 bucket.

    Parameters
    ----------
    folder : Path
        Folder to create.
    count : int
        Number of files; at least one per label.
    """
    keys = Keys(count, folder="many")
    sources = [folder.with_name("sources") / f"{number}.jpg" for number in range(SOURCES)]
    sources[0].parent.mkdir(parents=True)
    for number, source in enumerate(sources, start=1):
        source.write_bytes(b"\xff\xd8" * (SOURCE_BYTES * number // 2))
    label = ""
    for index in range(count):
        key = keys[index]
        if (own := key.rpartition("/")[0]) != label:
            label = own
            (folder.parent / label).mkdir(parents=True)
        os.link(sources[index % SOURCES], folder.parent / key)


def run_driver(bench: Bench, images: str, name: str, environ: dict[str, str], count: int) -> dict[str, Any]:
    """Run the driver's part on a folder, and return its figures and the peak memory of all its processes."""
    run = bench.work / "runs" / f"scale-{name}"
    run.mkdir(parents=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = pipeline.driver_environment(clean, master=f"local[{CORES}]", scratch=run)
    measured = process.measure_module(
        "benchmarks.driver",
        *(f"--images={images}", f"--run={run.as_uri()}", f"--cores={CORES}"),
        folder=run,
        environment={**environment, **environ},
        log_file=run / "log",
    )
    figures = measured.figures
    if (figures["listed"], figures["rows"]) != (count, count):
        raise SystemExit(f"{count} objects: {figures['listed']} were listed and the tasks read {figures['rows']}")
    return {**figures, "seconds": round(measured.seconds, 2), "peak_memory_mib": round(measured.peak_memory_mib)}


def side_text(side: dict[str, Any]) -> str:
    """Return a one-line summary of a side."""
    return f"listed in {side['list_seconds']:.1f} s, {side['tasks']} tasks, peak {side['peak_memory_mib']} MiB"


def lines(result: dict[str, Any]) -> list[str]:
    """Return both sides as a table."""
    sides = result["sides"]
    rows = [
        ["listing: seconds", *(f"{side['list_seconds']:.1f}" for side in sides.values())],
        ["listing: objects/s", *(f"{side['listed'] / side['list_seconds']:,.0f}" for side in sides.values())],
        ["listing: requests", *(str(side.get("requests", {}).get("GET", "")) for side in sides.values())],
        ["listing: MB of Parquet", *(f"{side['listing_bytes'] / 1e6:.1f}" for side in sides.values())],
        ["planning: seconds", *(f"{side['plan_seconds']:.3f}" for side in sides.values())],
        ["tasks", *(str(side["tasks"]) for side in sides.values())],
        ["images per task, min–max", *(_range(side["images_a_task"], 1) for side in sides.values())],
        ["MB per task, min–max", *(_range(side["bytes_a_task"], 1e6) for side in sides.values())],
        ["work per task, min–max", *("{:.3f}–{:.3f}".format(*side["work_a_task"]) for side in sides.values())],
        ["driver's Python: peak MiB", *(str(side["python_memory_mib"]) for side in sides.values())],
        [
            f"driver, JVM and workers: peak MiB (goal {result['goal_memory_mib']})",
            *(str(side["peak_memory_mib"]) for side in sides.values()),
        ],
    ]
    return markdown([f"{result['objects']:,} objects", *sides], rows)


def _range(ends: list[int], unit: float) -> str:
    return "–".join(f"{end / unit:,.0f}" for end in ends)
