"""EMR steps as data. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from include.artifacts.bundle import JOBS_ZIP
from include.cluster.sizing import DRIVER_HEAP_MIB
from include.records import StepRequest
from include.settings.deployment import SettingsError
from spark_jobs.args import JobArgs

PROGRESS_SECONDS = 5.0
"""How often, at most, a job publishes its progress. Each time is one PUT request on S3."""

MAX_STEP_CHARACTERS = 10_240
"""Total length of the strings in a step's HadoopJarStep (EMR API Reference, AddJobFlowSteps)."""

SPECULATION: Mapping[str, str] = MappingProxyType(
    {
        "spark.speculation": "true",
        # It compares rates of records, which Spark does not see here, and else waits twice as long.
        "spark.speculation.efficiency.enabled": "false",
    }
)
"""Spark's settings for a second attempt of a task that is slow compared with the others (Spark Configuration,
"Scheduling")."""

NO_CONF: Mapping[str, str] = MappingProxyType({})


def step_name(job: str, slug: str) -> str:
    """Return the step's name. It contains the run's slug, so a retried task finds the step that it already added."""
    return f"{job} {slug}"


def spark_step(
    arguments: JobArgs, *, slug: str, code: str, time_limit_minutes: int, conf: Mapping[str, str] = NO_CONF
) -> StepRequest:
    """Return one item of ``Steps`` of AddJobFlowSteps.

    ``timeout`` enforces the time limit even if Airflow and EMR do not. The deploy mode is client: stopping
    ``spark-submit`` stops the application, and the driver's log is the step's log.

    Parameters
    ----------
    arguments : JobArgs
        The job and its arguments.
    slug : str
        The run's slug.
    code : str
        URI of the code bundle's folder.
    time_limit_minutes : int
        The step is stopped and fails after this time.
    conf : mapping of str to str, optional
        Spark's settings of this step.

    Raises
    ------
    SettingsError
        If the step's arguments are longer than EMR allows.
    """
    command = [
        *("timeout", "--signal=TERM", "--kill-after=60s", f"{time_limit_minutes}m"),
        *("spark-submit", "--master", "yarn", "--deploy-mode", "client", "--driver-memory", f"{DRIVER_HEAP_MIB}m"),
        *("--name", step_name(arguments.program, slug), "--py-files", f"{code}/{JOBS_ZIP}"),
        *(word for name, value in conf.items() for word in ("--conf", f"{name}={value}")),
        f"{code}/{arguments.program}.py",
        *arguments.to_argv(),
    ]
    jar = "command-runner.jar"
    length = len(jar) + sum(map(len, command))
    if length > MAX_STEP_CHARACTERS:
        longest = max(command, key=len)
        problem = (
            f"the step {arguments.program} has {length} characters of arguments: EMR accepts at most "
            f"{MAX_STEP_CHARACTERS}. The longest argument has {len(longest)}: {longest[:60]!r}…"
        )
        raise SettingsError([problem])
    return {
        "Name": step_name(arguments.program, slug),
        "ActionOnFailure": "CONTINUE",  # the DAG terminates the cluster, after it has read the logs of a failed step
        "HadoopJarStep": {"Jar": jar, "Args": command},
    }
