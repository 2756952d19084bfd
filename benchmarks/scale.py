"""A million objects: how long it takes to list them and to plan the tasks, and what memory the driver takes for it.

On the local disk they are links to a few small files; on S3 they are those of a server that makes keys up, a thousand a
page as S3 does. That server is near and quick: S3's own time is not in the seconds, so the requests are counted too.
One label has 90 % of them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks import object_store, pipeline, process
from benchmarks.inputs import REPOSITORY
from benchmarks.s3_listing import LABELS, Keys, ListingServer
from benchmarks.table import Bench, markdown
from include.cluster.sizing import DRIVER_HEAP_MIB

DESCRIPTION = "listing, planning and driver memory for a million objects, one label with 90 % of them"

COUNT = 1_000_000
SOURCES = 64
"""Files that the others are links to: a file may have 65,000 (ext4)."""

SOURCE_BYTES = 1_500
CORES = 2
GOAL_MEMORY_MIB = 2_048


def measure(bench: Bench) -> dict[str, Any]:
    """Measure a local folder and an S3 bucket.

    Raises
    ------
    SystemExit
        When not every object is listed and given to exactly one task.
    """
    count = max(bench.sizes, default=COUNT)
    folder = bench.work / "many"
    make_files(folder, count)
    sides = {"local folder": run_driver(bench, folder.as_uri(), "local", {}, count)}
    print(f"local folder: {shown(sides['local folder'])}", flush=True)
    with ListingServer(count) as server:
        environ = object_store.environment(server.url, bench.work)
        sides["S3"] = run_driver(bench, "s3://many/data", "s3", environ, count)
        sides["S3"]["requests"] = server.requests()
    print(f"S3: {shown(sides['S3'])}", flush=True)
    return {"objects": count, "labels": LABELS, "goal_memory_mib": GOAL_MEMORY_MIB, "sides": sides}


def make_files(folder: Path, count: int) -> None:
    """Make as many files as asked for, small and not empty, under the names that the stand-in for S3 has too.

    Parameters
    ----------
    folder : Path
        Folder to make.
    count : int
        One or more for each of the labels.
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
    """Run the driver's part on a folder and return its figures, with the memory of its process and its JVM's."""
    run = bench.work / "runs" / f"scale-{name}"
    run.mkdir(parents=True)
    command = [
        *(sys.executable, "-m", "benchmarks.driver", f"--images={images}", f"--run={run.as_uri()}", f"--cores={CORES}"),
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = pipeline.environment(clean, scratch=run)
    submit = f"--master local[{CORES}] --driver-memory {DRIVER_HEAP_MIB}m --conf spark.ui.enabled=false pyspark-shell"
    environment |= {"PYTHONPATH": str(REPOSITORY), "PYSPARK_SUBMIT_ARGS": submit, **environ}
    measured = process.measure(command, folder=run, environment=environment, log_file=run / "log")
    figures: dict[str, Any] = json.loads(measured.output.splitlines()[-1])
    if (figures["listed"], figures["rows"]) != (count, count):
        raise SystemExit(f"{count} objects: {figures['listed']} were listed, and tasks took {figures['rows']} of them")
    return {**figures, "seconds": round(measured.seconds, 2), "peak_memory_mib": round(measured.peak_memory_mib)}


def shown(side: dict[str, Any]) -> str:
    """Return a side's figures in a line."""
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
        ["images a task, least and most", *(_range(side["images_a_task"], 1) for side in sides.values())],
        ["MB a task, least and most", *(_range(side["bytes_a_task"], 1e6) for side in sides.values())],
        ["work a task, least and most", *("{:.3f}–{:.3f}".format(*side["work_a_task"]) for side in sides.values())],
        ["driver's Python: peak MiB", *(str(side["python_memory_mib"]) for side in sides.values())],
        [
            f"driver, JVM and workers: peak MiB (goal {result['goal_memory_mib']})",
            *(str(side["peak_memory_mib"]) for side in sides.values()),
        ],
    ]
    return markdown([f"{result['objects']:,} objects", *sides], rows)


def _range(ends: list[int], unit: float) -> str:
    return "–".join(f"{end / unit:,.0f}" for end in ends)
