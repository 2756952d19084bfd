"""Listing very many keys in order: seconds and memory, if the store lists in order and if the listing is sorted.

``python -m benchmarks.sorted_listing COUNT …`` lists a simulated bucket (:mod:`benchmarks.s3_listing`), whose keys are
in order, in a new process for each measurement. The server competes with it for the cores: the CPU time is that of the
listing process alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import memory, object_store, process
from benchmarks.s3_listing import ListingServer
from benchmarks.table import markdown
from spark_jobs.lake import storage
from spark_jobs.lake.object_store import open_bucket

SIDES = {"passed on": True, "sorted": False}
"""The ways of a listing, and whether the bucket is declared to list in order."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both ways for each number of keys, and print them as a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sorted_listing", description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[1_000_000], help="numbers of keys")
    parser.add_argument("--side", choices=SIDES, help="list the bucket of the environment in this process")
    args = parser.parse_args(argv)
    if args.side:
        print(json.dumps(list_keys(in_order=SIDES[args.side])))
        return 0
    rows = [row(side, measure(count, side)) for count in args.counts for side in SIDES]
    print("\n".join(markdown(["keys", "listing", "s", "first key, s", "CPU s", "peak MiB", "before, MiB"], rows)))
    return 0


def measure(count: int, side: str) -> dict[str, Any]:
    """List a bucket in a new process, and return its figures.

    Raises
    ------
    SystemExit
        If a key is missing or out of order.
    """
    with tempfile.TemporaryDirectory(prefix="fruits-bench-") as folder, ListingServer(count) as server:
        work = Path(folder)
        environment = {**os.environ, **object_store.environment(server.url, work)}
        measured = process.measure_module(
            "benchmarks.sorted_listing", f"--side={side}", folder=work, environment=environment, log_file=work / "log"
        )
    if measured.figures["keys"] != count:
        raise SystemExit(f"{measured.figures['keys']} of {count} keys were listed in order")
    return measured.figures


def list_keys(*, in_order: bool) -> dict[str, Any]:
    """List the bucket, and return the figures of this process; the count stops at the first key out of order."""
    import obstore  # noqa: F401 (so that its memory is in the figure before)

    bucket = replace(open_bucket("many"), lists_in_order=in_order)
    before = memory.high_water_bytes(os.getpid())
    begin = time.perf_counter()
    first, count, last = 0.0, 0, ""
    for file in storage.list_sorted("s3://many/data", lambda _: bucket):
        if file.path <= last:
            break
        first = first or time.perf_counter() - begin
        last, count = file.path, count + 1
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "keys": count,
        "seconds": time.perf_counter() - begin,
        "first_seconds": first,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "memory_mib": memory.high_water_bytes(os.getpid()) / 2**20,
        "memory_before_mib": before / 2**20,
    }


def row(side: str, figures: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    times = (f"{figures[name]:.1f}" for name in ("seconds", "first_seconds", "cpu_seconds"))
    peaks = (f"{figures[name]:.0f}" for name in ("memory_mib", "memory_before_mib"))
    return [f"{figures['keys']:,}", side, *times, *peaks]


if __name__ == "__main__":
    raise SystemExit(main())
