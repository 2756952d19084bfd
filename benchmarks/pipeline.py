"""Our two steps as the local EMR endpoint runs them: command line of the DAG, environment of the endpoint."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks import REPOSITORY, process
from benchmarks.table import Bench
from include.artifacts.bundle import build_bundle
from include.cluster.sizing import DRIVER_HEAP_MIB
from include.cluster.steps import spark_step
from local.emr.options import SHORT_JOB_JVM, half_of_memory_mb
from local.emr.spark.commands import Target, translate
from local.emr.spark.environment import step_environment
from local.emr.spark.spark_home import archive_options, prepared_home
from spark_jobs.args import FEATURIZE_SUMMARY_FILE, PCA_SUMMARY_FILE, FeaturizeArgs, JobArgs, PcaArgs

TIME_LIMIT_MINUTES = 60


def export_model(weights: str, work: Path) -> Path:
    """Export the model and return its folder. One export serves all runs."""
    models = work / "models"
    exported = process.measure_module(
        "spark_jobs.model.export",
        f"--weights={weights}",
        f"--output={models.as_uri()}",
        folder=work,
        environment=os.environ,
        log_file=work / "export.log",
    )
    return models / str(exported.figures["digest"])[:16]


def featurize(
    bench: Bench,
    images: Path | str,
    name: str,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    environ: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Run only the featurize step, as a new run.

    Parameters
    ----------
    bench : Bench
        Provides the model, the Spark master and the working folder.
    images : Path or str
        Folder of the photos, or its URI.
    name : str
        Name of the run, which must not exist. Its files are in :func:`run_folder`.
    options : mapping
        More arguments of the job, by their names in ``FeaturizeArgs``.
    environ : mapping
        Environment variables that are added to those of the endpoint.

    Returns
    -------
    dict
        ``seconds``, the wall-clock time of ``spark-submit``; ``peak_memory_mib`` of its process tree;
        ``driver_memory_mib`` (:func:`driver_memory_mib`); and the job's ``summary``.
    """
    arguments = FeaturizeArgs(
        images=uri(images), run=uri(run_folder(bench, name)), model=uri(bench.model), **dict(options)
    )
    return _measured(bench, arguments, name, FEATURIZE_SUMMARY_FILE, environ)


def pca(
    bench: Bench,
    name: str,
    *,
    options: Mapping[str, Any] = MappingProxyType({}),
    heap_mb: int | None = None,
) -> dict[str, Any]:
    """Run only the pca step, on a run that has features.

    Parameters
    ----------
    bench : Bench
        Provides the Spark master and the working folder.
    name : str
        Name of the run. Its files are in :func:`run_folder`.
    options : mapping
        More arguments of the job, by their names in ``PcaArgs``.
    heap_mb : int, optional
        Upper limit for the heap of the driver's JVM, in MiB; by default half of this machine's memory.

    Returns
    -------
    dict
        As :func:`featurize`.
    """
    arguments = PcaArgs(run=uri(run_folder(bench, name)), **dict(options))
    return _measured(bench, arguments, name, PCA_SUMMARY_FILE, heap_mb=heap_mb)


def run(bench: Bench, lap: int) -> dict[str, Any]:
    """Run featurize and pca once, as a new run.

    Returns
    -------
    dict
        ``rows``, ``dimensions``, ``k``, ``rejects``, and ``seconds``. The latter has the wall-clock time of
        ``spark-submit`` for ``featurize`` and ``pca``, the time of each stage as ``featurize: list`` …, and ``total``.
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
    """Return the folder of a run."""
    return bench.work / "runs" / name


def write_code(work: Path) -> None:
    """Write the code bundle to the folder from which the steps load it."""
    code = work / "code"
    code.mkdir(parents=True, exist_ok=True)
    for name, data in build_bundle(REPOSITORY).files.items():
        (code / name).write_bytes(data)


def environment(environ: Mapping[str, str], *, scratch: Path) -> dict[str, str]:
    """Return the environment of a step on the local EMR endpoint, based on another environment."""
    spark_home = prepared_home()
    return step_environment(
        environ,
        python=sys.executable,
        spark_home=spark_home,
        scratch=scratch,
        jvm_options=f"{SHORT_JOB_JVM} {archive_options(spark_home)}",
    )


def driver_environment(environ: Mapping[str, str], *, master: str, scratch: Path) -> dict[str, str]:
    """Return the environment of a program that starts a SparkContext with a step's settings, without spark-submit."""
    submit = f"--master {master} --conf spark.ui.enabled=false --driver-memory {DRIVER_HEAP_MIB}m pyspark-shell"
    return {**environment(environ, scratch=scratch), "PYSPARK_SUBMIT_ARGS": submit}


def uri(place: Path | str) -> str:
    """Return the URI of a path of this machine; a URI stays as it is."""
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
    """Return an upper bound of a step's driver memory: the sum of the peak resident sets of its JVM and its Python.

    Workers are excluded. With a local master, the executor is part of the driver's JVM. The short-lived JVM that builds
    the driver's command line is excluded too, since it ends before the driver starts.
    """
    others = ("pyspark.daemon", "pyspark.worker", "org.apache.spark.launcher.Main")
    peaks: dict[str, float] = {}
    for line, peak in measured.single_peaks_mib:
        if not any(name in line for name in others):
            # A child that the JVM has just forked briefly has the same command line and memory: count both once.
            peaks[line] = max(peak, peaks.get(line, 0.0))
    return round(sum(peaks.values()))


def _submit(
    bench: Bench, arguments: JobArgs, name: str, environ: Mapping[str, str], heap_mb: int | None
) -> process.Measured:
    scratch = bench.work / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    spark_home = prepared_home()
    step = spark_step(arguments, slug=name, code=uri(bench.work / "code"), time_limit_minutes=TIME_LIMIT_MINUTES)
    cap = heap_mb or half_of_memory_mb()
    target = Target(str(spark_home / "bin" / "spark-submit"), bench.master, cap)
    return process.measure(
        translate(step["HadoopJarStep"]["Args"], target),
        folder=scratch,
        environment={**environment(os.environ, scratch=scratch), **environ},
        log_file=bench.work / f"{arguments.program}-{name}.log",
    )
