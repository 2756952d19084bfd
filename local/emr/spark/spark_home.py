"""A Spark home for steps on this machine: links to the files of pyspark, and an archive of Java classes.

``make setup`` runs ``python -m local.emr.spark.spark_home``, which prepares the home in this environment. Every
endpoint of the environment then uses it. The archive (dynamic class-data sharing, JEP 350) saves the JVM from reading
and verifying these classes again, which takes half of a small step's start. Without a prepared home, an endpoint
creates a home without an archive, and its steps start later.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from local.emr.options import SHORT_JOB_JVM
from local.emr.spark.environment import step_environment
from local.emr.spark.host_name import name_environment
from local.emr.spark.s3_connector import connector_folder, connector_jars

ARCHIVE = "classes.jsa"
WARM_UP = Path(__file__).with_name("warm_up.py")
QUIET = "-Xlog:disable -Xlog:all=error:stderr"
"""Keeps warnings about an unusable archive out of standard output, which holds the step's output."""


def prepared_home() -> Path:
    """Return the path of this environment's prepared home, whether it exists or not."""
    return Path(sys.prefix) / "spark-home"


def link_home(folder: Path, *, with_python: bool) -> None:
    """Create a Spark home of links to the files of pyspark and to the jars of the S3 connector, if it is installed.

    The folder of pyspark itself cannot be the home: on ``local-cluster``, Spark writes a ``work`` folder in its home.

    Parameters
    ----------
    folder : Path
        The home to create.
    with_python : bool
        Whether Spark adds its zips of pyspark to the import path of the steps. An interpreter that has pyspark
        installed does not need them: a zip has no compiled modules, and a worker reads its directory for every task
        (0.3 s).

    Raises
    ------
    RuntimeError
        When pyspark is not installed.
    """
    pyspark = importlib.util.find_spec("pyspark")  # an import takes half a second
    if pyspark is None or pyspark.origin is None:
        raise RuntimeError("pyspark is not installed in the endpoint's environment: install requirements.txt")
    folder.mkdir()
    for entry in Path(pyspark.origin).parent.iterdir():
        if entry.name == "work" or (entry.name == "python" and not with_python):
            continue  # `work` belongs to executors that used the folder of pyspark as their home
        if entry.name == "jars":
            _link_all([*entry.iterdir(), *connector_jars(connector_folder())], folder / entry.name)
            continue
        (folder / entry.name).symlink_to(entry)


def _link_all(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file)


def archive_options(home: Path) -> str:
    """Return the JVM options that use a home's archive of classes, or an empty string if it has no archive."""
    archive = home / ARCHIVE
    return f'"-XX:SharedArchiveFile={archive}" {QUIET}' if archive.exists() else ""


def prepare_home(home: Path) -> None:
    """Create a home with an archive of classes, and replace the previous one.

    Raises
    ------
    subprocess.CalledProcessError
        If Spark does not run on this machine; its output has the reason.
    """
    shutil.rmtree(home, ignore_errors=True)
    link_home(home, with_python=False)
    unfinished = home / f"unfinished-{ARCHIVE}"
    with tempfile.TemporaryDirectory() as scratch:
        options = f'{SHORT_JOB_JVM} "-XX:ArchiveClassesAtExit={unfinished}"'
        environment = step_environment(
            os.environ, python=sys.executable, spark_home=home, scratch=Path(scratch), jvm_options=options
        ) | name_environment(Path(scratch))
        command = [f"{home}/bin/spark-submit", "--master", "local[2]", "--conf", "spark.ui.enabled=false"]
        subprocess.run(
            [*command, "--py-files", str(WARM_UP), str(WARM_UP)],
            env=environment,
            cwd=scratch,
            check=True,
            capture_output=True,
            text=True,
        )
    unfinished.rename(home / ARCHIVE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m local.emr.spark.spark_home",
        description="Prepare a Spark home in this environment, from which steps start in half the time.",
    )
    parser.add_argument(
        "--home", type=Path, default=prepared_home(), help="the folder to create (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    try:
        prepare_home(args.home.resolve())
    except subprocess.CalledProcessError as error:
        sys.stderr.write(
            f"{error.stdout[-2000:]}{error.stderr[-2000:]}\nSpark does not run on this machine: steps will fail\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
