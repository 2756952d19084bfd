"""The changes in a very large bucket: seconds and memory, if the store lists in order and if the listing is sorted.

The keys are those of a simulated bucket (:mod:`benchmarks.s3_listing`). The published listing has the same keys but for
1 %: every 200th is new or gone, every 200th has another ETag. The task runs in a new process, whose memory is measured:
``python -m benchmarks.find_changes SIDE LISTING RUN``. The server competes with it for the cores.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import memory, object_store, process
from benchmarks.s3_listing import Keys, ListingServer
from benchmarks.table import Bench, markdown
from spark_jobs.args import DEFAULT_PATTERN
from spark_jobs.images import changes
from spark_jobs.lake import schemas
from spark_jobs.lake.object_store import open_bucket
from spark_jobs.records import Fingerprint

DESCRIPTION = "finding the changes among one and ten million keys of a bucket, 1 % of them changed"

SIZES = (1_000_000, 10_000_000)
GOAL_MEMORY_MIB = 1_024

SIDES = {"in order": True, "sorted": False}
"""The ways of a listing, and whether the bucket is declared to list in order. S3 lists in order."""

BUCKET = "many"
PERIOD = 400
"""Of so many keys, one is new, two have another ETag, and one more was there that is gone."""

NEW, CHANGED, GONE = 100, (0, 200), 300
FINGERPRINT: Fingerprint = {"digest": "0" * 64, "inputs": {}}
MODIFIED = 1_795_338_000_000_000
"""Microseconds since 1970. It differs from the bucket's times, since ETags decide."""


def measure(bench: Bench) -> dict[str, Any]:
    """Find the changes for each number of keys, in both ways.

    Raises
    ------
    SystemExit
        If other changes are found than were made.
    """
    sizes = []
    for count in bench.sizes or SIZES:
        bench.work.mkdir(parents=True, exist_ok=True)
        listing = bench.work / f"published-{count}.parquet"
        write_listing(listing, Keys(count))
        sides = {}
        for side in SIDES:
            sides[side] = run_find(bench.work, listing, count, side)
            print(f"{count} keys, {side}: {side_text(sides[side])}", flush=True)
        sizes.append({"keys": count, "listing_bytes": listing.stat().st_size, "sides": sides})
        listing.unlink()
    return {"goal_memory_mib": GOAL_MEMORY_MIB, "sizes": sizes}


def expected(count: int) -> dict[str, int]:
    """Return the numbers of images that are listed, new, changed and gone, and those of the work list."""
    new, gone = (len(range(first, count, PERIOD)) for first in (NEW, GONE))
    changed = sum(len(range(first, count, PERIOD)) for first in CHANGED)
    return {"listed": count, "new": new, "changed": changed, "gone": gone, "work": new + changed}


def versions(keys: Keys) -> Iterator[tuple[str, str, int, str]]:
    """Yield path, label, size and ETag of each image of the published state, in the order of the paths."""
    for index in range(len(keys)):
        path = f"s3://{BUCKET}/{keys[index]}"
        label = path.split("/")[-2]
        case = index % PERIOD
        if case == GONE:
            # A hyphen sorts before the dot of the ending, so this path comes directly before the other.
            yield f"{path.removesuffix('.jpg')}-gone.jpg", label, keys.size(index), f"{index:032x}"
        if case != NEW:
            yield path, label, keys.size(index), f"{index + (case in CHANGED):032x}"


def write_listing(file: Path, keys: Keys) -> None:
    """Write the published listing, as ``find_changes`` does."""
    rows = versions(keys)
    with pq.ParquetWriter(file, schemas.LISTING) as writer:
        while group := list(islice(rows, changes.ROWS_PER_GROUP)):
            paths, labels, sizes, etags = zip(*group, strict=True)
            columns = [paths, labels, sizes, [MODIFIED] * len(group), etags]
            writer.write_table(pa.table(columns, schema=schemas.LISTING), row_group_size=changes.ROWS_PER_GROUP)


def run_find(work: Path, listing: Path, count: int, side: str) -> dict[str, Any]:
    """Find the changes in a new process, and return its figures."""
    run = work / "runs" / f"{side.replace(' ', '-')}-{count}"
    run.mkdir(parents=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with ListingServer(count) as server:
        measured = process.measure_module(
            "benchmarks.find_changes",
            *(side, f"file://{listing}", f"file://{run}"),
            folder=run,
            environment={**clean, **object_store.environment(server.url, work)},
            log_file=run / "log",
        )
    shutil.rmtree(run)
    figures = measured.figures
    found = {name: figures.pop(name) for name in expected(count)}
    if found != expected(count):
        raise SystemExit(f"{count} keys, {side}: found {found}, expected {expected(count)}")
    return figures


def main(side: str, listing: str, run: str) -> None:
    """Find the changes in the bucket of the environment, and print the figures of this process as a line of JSON."""
    import obstore  # noqa: F401 (so that its memory is in the figure before)

    bucket = replace(open_bucket(BUCKET), lists_in_order=SIDES[side])
    published = changes.Published(listing, FINGERPRINT, [])
    folder = changes.Folder(f"s3://{BUCKET}/data", DEFAULT_PATTERN)
    before = memory.high_water_bytes(os.getpid())
    begin = time.perf_counter()
    # Files of the run are local: the bucket is opened for the photos only.
    found = changes.find(folder, run, FINGERPRINT, published, buckets=lambda _: bucket)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        **{name: found[name] for name in expected(1)},  # type: ignore[literal-required]
        "seconds": round(time.perf_counter() - begin, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "memory_mib": round(memory.high_water_bytes(os.getpid()) / 2**20),
        "memory_before_mib": round(before / 2**20),
    }
    print(json.dumps(figures))


def side_text(side: dict[str, Any]) -> str:
    """Return a one-line summary of a side."""
    return f"{side['seconds']:.1f} s, peak {side['memory_mib']} MiB"


def lines(result: dict[str, Any]) -> list[str]:
    """Return a row for each number of keys and way of the listing."""
    goal = result["goal_memory_mib"]
    rows = [
        [
            f"{size['keys']:,}",
            name,
            f"{side['seconds']:.1f}",
            f"{side['cpu_seconds']:.1f}",
            f"{side['memory_mib']} ({'reached' if side['memory_mib'] <= goal else 'MISSED'})",
            str(side["memory_before_mib"]),
        ]
        for size in result["sizes"]
        for name, side in size["sides"].items()
    ]
    return markdown(["keys", "listing", "s", "CPU s", f"peak MiB (goal {goal})", "before, MiB"], rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
