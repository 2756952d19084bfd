"""EMR steps as data. Pure."""

from __future__ import annotations

from typing import Any

from include.artifacts.bundle import JOBS_ZIP
from include.cluster.sizing import DRIVER_HEAP_MIB
from spark_jobs.args import JobArgs


def step_name(job: str, slug: str) -> str:
    """Return the step's name; the run's slug in it lets a retried task find the step that it has already added."""
    return f"{job} {slug}"


def spark_step(arguments: JobArgs, *, slug: str, code: str, time_limit_minutes: int) -> dict[str, Any]:
    """Return one entry of AddJobFlowSteps' ``Steps``.

    ``timeout`` is a hard limit that needs neither Airflow nor EMR. The deploy mode is client, so that ending
    ``spark-submit`` ends the application, and the driver's log is the step's log.

    Parameters
    ----------
    arguments : JobArgs
        The job and its arguments.
    slug : str
        The run's slug.
    code : str
        URI of the code bundle's folder.
    time_limit_minutes : int
        After this the step is ended, and fails.
    """
    command = [
        *("timeout", "--signal=TERM", "--kill-after=60s", f"{time_limit_minutes}m"),
        *("spark-submit", "--master", "yarn", "--deploy-mode", "client", "--driver-memory", f"{DRIVER_HEAP_MIB}m"),
        *("--name", step_name(arguments.program, slug), "--py-files", f"{code}/{JOBS_ZIP}"),
        f"{code}/{arguments.program}.py",
        *arguments.to_argv(),
    ]
    return {
        "Name": step_name(arguments.program, slug),
        "ActionOnFailure": "CONTINUE",  # the DAG ends the cluster; a failed step must leave it readable until then
        "HadoopJarStep": {"Jar": "command-runner.jar", "Args": command},
    }
