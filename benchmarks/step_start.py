"""How fast a step starts from two or more Spark homes: ``python -m benchmarks.step_start HOME HOME [--laps 7]``.

Each lap submits an empty job once from every home, in turn: it starts the context of the jobs, runs one task per core
and stops. For each home, the medians of wall-clock and CPU seconds are printed. CPU time varies less on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import spark_jobs
from local.emr.options import SHORT_JOB_JVM
from local.emr.spark.environment import step_environment
from local.emr.spark.spark_home import archive_options

EMPTY_JOB = """
from spark_jobs.runtime import context, workers
sc = context.start("empty")
workers.run(sc, range(sc.defaultParallelism), lambda number: number)
sc.stop()
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_start", description=__doc__.partition("\n\n")[0])
    parser.add_argument("homes", nargs="+", type=Path, metavar="HOME", help="a home that spark_home has prepared")
    parser.add_argument("--laps", type=int, default=7)
    args = parser.parse_args(argv)
    homes = [home.resolve() for home in args.homes]
    with tempfile.TemporaryDirectory() as folder:
        laps = [[submit(home, Path(folder)) for home in homes] for _ in range(args.laps)]
    for home, costs in zip(homes, zip(*laps, strict=True), strict=True):
        for name, seconds in zip(("wall", "CPU"), zip(*costs, strict=True), strict=True):
            figures = ", ".join(f"{value:.2f}" for value in seconds)
            sys.stdout.write(f"{home} {name} {statistics.median(seconds):.2f} s ({figures})\n")
    return 0


def submit(home: Path, scratch: Path) -> tuple[float, float]:
    """Submit the empty job as the endpoint submits a step, and return its wall-clock and CPU seconds."""
    script = scratch / "empty.py"
    script.write_text(EMPTY_JOB)
    jobs = Path(spark_jobs.__file__).parent
    code = shutil.make_archive(f"{scratch}/jobs", "zip", jobs.parent, jobs.name)
    options = f"{SHORT_JOB_JVM} {archive_options(home)}"
    environment = step_environment(
        os.environ, python=sys.executable, spark_home=home, scratch=scratch, jvm_options=options
    )
    command = [f"{home}/bin/spark-submit", "--master", "local[*]", "--conf", "spark.ui.enabled=false"]
    cpu, started = cpu_seconds(), time.monotonic()
    subprocess.run(
        [*command, "--py-files", code, str(script)], env=environment, check=True, capture_output=True, cwd=scratch
    )
    return time.monotonic() - started, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """Return the CPU seconds of all child processes that have ended and were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
