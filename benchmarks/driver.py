"""The driver's work before the first task: start a SparkContext, list the images, plan the tasks.

``python -m benchmarks.driver``: a separate program, so that its memory is only the driver's.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from typing import Any

import numpy as np
from pyspark import SparkContext

from spark_jobs import fingerprint
from spark_jobs.args import LISTING_FILE, WORK_FILE, FeaturizeArgs
from spark_jobs.featurize import extraction, job
from spark_jobs.images import changes
from spark_jobs.lake import storage
from spark_jobs.runtime import context


def main() -> int:
    """Start Spark, list, plan, and print the figures as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.driver", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--images", required=True, help="URI of the folder")
    parser.add_argument("--run", required=True, help="URI of the run's folder")
    parser.add_argument("--cores", type=int, required=True, help="number of concurrent tasks, for the plan")
    parsed = parser.parse_args()
    args = FeaturizeArgs(images=parsed.images, run=parsed.run, model="file:///none")
    sc = context.start("driver")
    try:
        figures = prepare(args, parsed.cores)
        figures["rows"] = read_by_tasks(sc, args, figures.pop("borders"))
    finally:
        sc.stop()
    print(json.dumps(figures))
    return 0


def prepare(args: FeaturizeArgs, parallelism: int) -> dict[str, Any]:
    """List and plan as the job does, and return the figures."""
    folder, features_of = changes.Folder(args.images, args.pattern), fingerprint.planned("none", args)
    before = peak_memory_mib()
    begin = time.perf_counter()
    found = changes.find(folder, args.run, features_of, None)
    listed_at = time.perf_counter()
    sizes = job.read_sizes(storage.join(args.run, WORK_FILE))
    borders = job.plan_tasks(args, sizes, parallelism)
    planned_at = time.perf_counter()
    images = np.diff(borders)
    sums = np.add.reduceat(sizes, borders[:-1])
    work = images / args.images_per_task + sums / args.bytes_per_task
    return {
        "listed": found["listed"],
        "list_seconds": round(listed_at - begin, 2),
        "plan_seconds": round(planned_at - listed_at, 3),
        "python_memory_before_mib": before,
        "python_memory_mib": peak_memory_mib(),
        "listing_bytes": storage.size(storage.join(args.run, LISTING_FILE)),
        "tasks": len(images),
        "images_a_task": [int(images.min()), int(images.max())],
        "bytes_a_task": [int(sums.min()), int(sums.max())],
        "work_a_task": [round(float(work.min()), 4), round(float(work.max()), 4)],
        "borders": borders,
    }


def read_by_tasks(sc: SparkContext, args: FeaturizeArgs, borders: np.ndarray) -> int:
    """Read each planned task's share of the work list in a worker, as the job does, and count the rows."""
    work_list = storage.join(args.run, WORK_FILE)

    def count(number: int) -> int:
        share = range(int(borders[number]), int(borders[number + 1]))
        return int(extraction.read_work(work_list, share).num_rows)

    numbers = range(len(borders) - 1)
    rows: int = sc.parallelize(numbers, len(numbers)).map(count).sum()
    return rows


def peak_memory_mib() -> int:
    """Return this process's peak memory; the JVM and the workers are separate processes and do not count."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    sys.exit(main())
