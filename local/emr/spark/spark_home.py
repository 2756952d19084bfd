"""A Spark home for steps on this machine: links to pyspark's, and an archive of the classes that a JVM loads first.

``python -m local.emr.spark.spark_home`` prepares one in this environment (``make setup`` does it), which every
endpoint of the environment then uses: half of the time in which a step of this size starts is spent on reading and
verifying classes (dynamic class-data sharing, JEP 350). Without it, steps get links of their own, and start later.
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
from local.emr.spark.s3_connector import connector_folder, connector_jars

ARCHIVE = "classes.jsa"
WARM_UP = Path(__file__).with_name("warm_up.py")
QUIET = "-Xlog:disable -Xlog:all=error:stderr"
"""A JVM that cannot use an archive says so on standard output, where a step's output belongs; it works all the same."""


def prepared_home() -> Path:
    """Return where this environment's prepared home is, or would be."""
    return Path(sys.prefix) / "spark-home"


def link_home(folder: Path, *, with_python: bool) -> None:
    """Make a Spark home of links to pyspark's, and to the jars of the S3 connector where there are any.

    It is not pyspark's own folder, since Spark writes a ``work`` folder in its home on ``local-cluster``.

    Parameters
    ----------
    folder : Path
        The home to make.
    with_python : bool
        Whether Spark puts its own zips of pyspark on the steps' path. An interpreter that has pyspark installed does
        without: a zip has no compiled modules, and a worker reads its directory again for every task (0.3 s).

    Raises
    ------
    RuntimeError
        When pyspark is not installed.
    """
    spark = importlib.util.find_spec("pyspark")  # found, not imported: that takes half a second
    if spark is None or spark.origin is None:
        raise RuntimeError("pyspark is not installed in the endpoint's environment: install requirements.txt")
    folder.mkdir()
    for entry in Path(spark.origin).parent.iterdir():
        if entry.name == "work" or (entry.name == "python" and not with_python):
            continue  # what executors of others have left in pyspark's own folder is not this home's
        if entry.name == "jars":
            _link_all([*entry.iterdir(), *connector_jars(connector_folder())], folder / entry.name)
            continue
        (folder / entry.name).symlink_to(entry)


def _link_all(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir()
    for file in files:
        (folder / file.name).symlink_to(file)


def archive_options(home: Path) -> str:
    """Return the JVM options that use a home's archive of classes; none when it has no archive."""
    archive = home / ARCHIVE
    return f'"-XX:SharedArchiveFile={archive}" {QUIET}' if archive.exists() else ""


def prepare_home(home: Path) -> None:
    """Make the environment's home, with its archive of classes, in place of an earlier one.

    Raises
    ------
    subprocess.CalledProcessError
        When Spark does not run here; its output has the reason.
    """
    shutil.rmtree(home, ignore_errors=True)
    link_home(home, with_python=False)
    unfinished = home / f"unfinished-{ARCHIVE}"
    with tempfile.TemporaryDirectory() as scratch:
        options = f'{SHORT_JOB_JVM} "-XX:ArchiveClassesAtExit={unfinished}"'
        environment = step_environment(
            os.environ, python=sys.executable, spark_home=home, scratch=Path(scratch), jvm_options=options
        )
        command = [f"{home}/bin/spark-submit", "--master", "local[2]", "--conf", "spark.ui.enabled=false"]
        subprocess.run(
            [*command, str(WARM_UP), scratch], env=environment, cwd=scratch, check=True, capture_output=True, text=True
        )
    unfinished.rename(home / ARCHIVE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m local.emr.spark.spark_home",
        description="Prepare a Spark home in this environment, from which steps start in half the time.",
    )
    parser.parse_args(argv)
    try:
        prepare_home(prepared_home())
    except subprocess.CalledProcessError as error:
        sys.stderr.write(
            f"{error.stdout[-2000:]}{error.stderr[-2000:]}\nSpark does not run here; steps will not either\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
