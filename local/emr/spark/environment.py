"""The environment variables of a step. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

INHERITED = ("HOME", "JAVA_HOME", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "TZ", "USER")
INHERITED_PREFIXES = ("AWS_", "SSL_CERT_")


def step_environment(
    server: Mapping[str, str],
    *,
    python: str,
    spark_home: Path,
    scratch: Path,
    jvm_options: str = "",
    extra_names: Iterable[str] = (),
) -> dict[str, str]:
    """Return the environment of a step.

    ``PYTHONPATH`` is not passed on: a job must work from its zip alone, as it does on a cluster.

    Parameters
    ----------
    server : mapping
        The endpoint's own environment.
    python : str
        Interpreter of driver and workers.
    spark_home : Path
        Spark installation to use.
    scratch : Path
        Folder for temporary files and Spark's local directories.
    jvm_options : str
        Options of the driver's JVM, separated by spaces.
    extra_names : iterable of str
        Names of more variables that the step inherits.
    """
    names = {*INHERITED, *extra_names}
    inherited = {name: value for name, value in server.items() if name in names or name.startswith(INHERITED_PREFIXES)}
    return inherited | {
        "PATH": f"{Path(python).parent}:{server.get('PATH', '/usr/local/bin:/usr/bin:/bin')}",
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONNOUSERSITE": "1",
        # Workers import modules from their working directory, which may be shared: no __pycache__ there.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYSPARK_PYTHON": python,
        "PYSPARK_DRIVER_PYTHON": python,
        "SPARK_HOME": str(spark_home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LOCAL_DIRS": str(scratch),
        "SPARK_SUBMIT_OPTS": f'"-Djava.io.tmpdir={scratch}" -XX:-UsePerfData {jvm_options}'.rstrip(),
        "TMPDIR": str(scratch),
    }
