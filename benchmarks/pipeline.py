"""Our two steps, as the local EMR endpoint runs them: the command line is the DAG's, the environment the endpoint's."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks import process
from benchmarks.table import Bench
from include.artifacts.bundle import build_bundle
from include.cluster.steps import spark_step
from local.emr.options import SHORT_JOB_JVM, half_of_memory_mb
from local.emr.spark.commands import Target, translate
from local.emr.spark.environment import step_environment
from local.emr.spark.spark_home import archive_options, prepared_home
from spark_jobs.args import FEATURIZE_SUMMARY_FILE, PCA_SUMMARY_FILE, FeaturizeArgs, JobArgs, PcaArgs

REPOSITORY = Path(__file__).resolve().parent.parent
TIME_LIMIT_MINUTES = 60


def export_model(weights: str, work: Path) -> Path:
    """Export the model, which is done once for any number of runs, and return its folder."""
    models = work / "models"
    command = [sys.executable, "-m", "spark_jobs.model.export", f"--weights={weights}", f"--output={models.as_uri()}"]
    output = process.run(command, folder=REPOSITORY, environment=os.environ, log_file=work / "export.log")
    return models / str(json.loads(output.splitlines()[-1])["digest"])[:16]


def featurize(
    bench: Bench,
    images: Path | str,
    name: str,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Run the featurize step by itself, on a run of its own.

    Parameters
    ----------
    bench : Bench
        The model, the Spark master and the folder to work in.
    images : Path or str
        Folder of the photos, or its URI.
    name : str
        Name of the run; each has to be new. What it wrote is at :func:`run_folder`.
    options : mapping
        Arguments of the job besides its images, run and model, by their names in ``FeaturizeArgs``.
    environ : mapping
        Environment variables of the step besides those that the endpoint gives it.

    Returns
    -------
    dict
        ``seconds`` from the start of ``spark-submit`` to its end, ``peak_memory_mib`` of its process tree,
        :func:`driver_memory_mib`, and the job's ``summary``.
    """
    arguments = FeaturizeArgs(
        images=_uri(images), run=_uri(run_folder(bench, name)), model=_uri(bench.model), **dict(options)
    )
    return _measured(bench, arguments, name, FEATURIZE_SUMMARY_FILE, environ)


def pca(
    bench: Bench,
    name: str,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    heap_mb: int | None = None,
) -> dict[str, Any]:
    """Run the pca step by itself, on a run that has features.

    Parameters
    ----------
    bench : Bench
        The Spark master and the folder to work in.
    name : str
        Name of the run, which is at :func:`run_folder`.
    options : mapping
        Arguments of the job besides its run, by their names in ``PcaArgs``.
    heap_mb : int, optional
        Most memory for the heap of the driver's JVM, in MiB; as in production, or half of the machine's, by default.

    Returns
    -------
    dict
        As :func:`featurize`.
    """
    arguments = PcaArgs(run=_uri(run_folder(bench, name)), **dict(options))
    return _measured(bench, arguments, name, PCA_SUMMARY_FILE, heap_mb=heap_mb)


def run(bench: Bench, lap: int) -> dict[str, Any]:
    """Run featurize and pca once on a run of their own.

    Returns
    -------
    dict
        ``rows``, ``dimensions``, ``k``, and ``seconds``: ``featurize`` and ``pca`` of wall clock from the start of
        ``spark-submit`` to its end, their stages as ``featurize: list`` …, and ``total``.
    """
    name = f"lap-{lap}"
    featurized = featurize(bench, bench.images, name)
    reduced = pca(bench, name)
    seconds: dict[str, float] = {}
    for program, step in (("featurize", featurized), ("pca", reduced)):
        stages: Mapping[str, float] = step["summary"]["seconds"]
        within = sum(value for stage, value in stages.items() if stage != "total")
        seconds[program] = step["seconds"]
        seconds |= {f"{program}: {stage}": value for stage, value in stages.items() if stage != "total"}
        seconds[f"{program}: JVM, imports and the rest"] = round(step["seconds"] - within, 3)
    seconds["total"] = round(seconds["featurize"] + seconds["pca"], 3)
    return {
        "rows": reduced["summary"]["images"],
        "dimensions": reduced["summary"]["dimensions"],
        "k": reduced["summary"]["k"],
        "rejects": featurized["summary"]["rejects"],
        "seconds": seconds,
    }


def run_folder(bench: Bench, name: str) -> Path:
    """Return the folder that a run of this name writes to."""
    return bench.work / "runs" / name


def write_code(work: Path) -> None:
    """Put the code bundle where the steps take it from."""
    code = work / "code"
    code.mkdir(parents=True, exist_ok=True)
    for name, data in build_bundle(REPOSITORY).files.items():
        (code / name).write_bytes(data)


def environment(environ: Mapping[str, str], *, scratch: Path) -> dict[str, str]:
    """Return the environment that the local EMR endpoint gives a step, made from another."""
    spark_home = prepared_home()
    return step_environment(
        environ,
        python=sys.executable,
        spark_home=spark_home,
        scratch=scratch,
        jvm_options=f"{SHORT_JOB_JVM} {archive_options(spark_home)}",
    )


def _uri(place: Path | str) -> str:
    return f"file://{place}" if isinstance(place, Path) else place


def _measured(
    bench: Bench,
    arguments: JobArgs,
    name: str,
    summary_file: str,
    environ: Mapping[str, str] = MappingProxyType({}),
    heap_mb: int | None = None,
) -> dict[str, Any]:
    measured = _submit(bench, arguments, name, environ, heap_mb)
    return {
        "seconds": round(measured.seconds, 3),
        "peak_memory_mib": round(measured.peak_memory_mib),
        "driver_memory_mib": driver_memory_mib(measured),
        "summary": json.loads((run_folder(bench, name) / summary_file).read_text()),
    }


def driver_memory_mib(measured: process.Measured) -> int:
    """Return the most memory that a step's driver may have had: the peaks of its JVM's and its Python's resident sets.

    The workers are other processes, but the executor is a part of the driver's JVM on a local master. The JVM that
    makes the command line of the driver's, a short-lived one, has ended before it starts.
    """
    others = ("pyspark.daemon", "pyspark.worker", "org.apache.spark.launcher.Main")
    peaks: dict[str, float] = {}
    for line, peak in measured.single_peaks_mib:
        if not any(name in line for name in others):
            # What the JVM starts has its command line, and its memory, for a moment: one process, seen twice.
            peaks[line] = max(peak, peaks.get(line, 0.0))
    return round(sum(peaks.values()))


def _submit(
    bench: Bench, arguments: JobArgs, name: str, environ: Mapping[str, str], heap_mb: int | None
) -> process.Measured:
    scratch = bench.work / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    spark_home = prepared_home()
    step = spark_step(arguments, slug=name, code=_uri(bench.work / "code"), time_limit_minutes=TIME_LIMIT_MINUTES)
    cap = heap_mb or half_of_memory_mb()
    target = Target(str(spark_home / "bin" / "spark-submit"), bench.master, cap)
    return process.measure(
        translate(step["HadoopJarStep"]["Args"], target),
        folder=scratch,
        environment={**environment(os.environ, scratch=scratch), **environ},
        log_file=bench.work / f"{arguments.program}-{name}.log",
    )
