"""Our two steps, as the local EMR endpoint runs them: the command line is the DAG's, the environment the endpoint's."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import process
from include.bundle import build_bundle
from include.local_emr.commands import Target, translate
from include.local_emr.environment import step_environment
from include.local_emr.options import SHORT_JOB_JVM, half_of_memory_mb
from include.local_emr.spark_home import archive_options, prepared_home
from include.steps import spark_step
from spark_jobs.args import FEATURIZE_SUMMARY_FILE, PCA_SUMMARY_FILE, FeaturizeArgs, JobArgs, PcaArgs

REPOSITORY = Path(__file__).resolve().parent.parent
TIME_LIMIT_MINUTES = 60


@dataclass(frozen=True)
class Bench:
    """What every lap of our pipeline needs.

    Attributes
    ----------
    images : Path
        Folder of <label>/*.jpg.
    model : Path
        Folder of the exported model.
    work : Path
        Folder for the code, runs and logs.
    master : str
        Spark master.
    """

    images: Path
    model: Path
    work: Path
    master: str


def export_model(weights: str, work: Path) -> Path:
    """Export the model, which is done once for any number of runs, and return its folder."""
    models = work / "models"
    command = [sys.executable, "-m", "spark_jobs.export", f"--weights={weights}", f"--output={models.as_uri()}"]
    output = process.run(command, folder=REPOSITORY, environment=os.environ, log_file=work / "export.log")
    return models / str(json.loads(output.splitlines()[-1])["digest"])[:16]


def run(bench: Bench, lap: int) -> dict[str, Any]:
    """Run featurize and pca once on a run of their own.

    Returns
    -------
    dict
        ``rows``, ``dimensions``, ``k``, and ``seconds``: ``featurize`` and ``pca`` of wall clock from the start of
        ``spark-submit`` to its end, their stages as ``featurize: list`` …, and ``total``.
    """
    folder = bench.work / "runs" / f"lap-{lap}"
    uri = f"file://{folder}"
    jobs: list[tuple[JobArgs, str]] = [
        (
            FeaturizeArgs(images=f"file://{bench.images}", run=uri, model=f"file://{bench.model}"),
            FEATURIZE_SUMMARY_FILE,
        ),
        (PcaArgs(run=uri), PCA_SUMMARY_FILE),
    ]
    seconds: dict[str, float] = {}
    summaries: dict[str, dict[str, Any]] = {}
    for arguments, summary_file in jobs:
        name = arguments.program
        begin = time.perf_counter()
        _submit(bench, arguments, lap)
        seconds[name] = round(time.perf_counter() - begin, 3)
        summaries[name] = json.loads((folder / summary_file).read_text())
        stages: Mapping[str, float] = summaries[name]["seconds"]
        within = sum(value for stage, value in stages.items() if stage != "total")
        seconds |= {f"{name}: {stage}": value for stage, value in stages.items() if stage != "total"}
        seconds[f"{name}: JVM, imports and the rest"] = round(seconds[name] - within, 3)
    seconds["total"] = round(seconds["featurize"] + seconds["pca"], 3)
    return {
        "rows": summaries["pca"]["images"],
        "dimensions": summaries["pca"]["dimensions"],
        "k": summaries["pca"]["k"],
        "rejects": summaries["featurize"]["rejects"],
        "seconds": seconds,
    }


def write_code(work: Path) -> None:
    """Put the code bundle where the steps take it from."""
    code = work / "code"
    code.mkdir(parents=True, exist_ok=True)
    for name, data in build_bundle(REPOSITORY).files.items():
        (code / name).write_bytes(data)


def _submit(bench: Bench, arguments: JobArgs, lap: int) -> None:
    scratch = bench.work / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    spark_home = prepared_home()
    step = spark_step(
        arguments, slug=f"lap-{lap}", code=f"file://{bench.work / 'code'}", time_limit_minutes=TIME_LIMIT_MINUTES
    )
    target = Target(str(spark_home / "bin" / "spark-submit"), bench.master, half_of_memory_mb())
    environment = step_environment(
        os.environ,
        python=sys.executable,
        spark_home=spark_home,
        scratch=scratch,
        jvm_options=f"{SHORT_JOB_JVM} {archive_options(spark_home)}",
    )
    process.run(
        translate(step["HadoopJarStep"]["Args"], target),
        folder=scratch,
        environment=environment,
        log_file=bench.work / f"{arguments.program}-{lap}.log",
    )
