"""Fill and read the lake of a local run, in child processes that have the environment of the run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from local.environment import PROJECT, download_settings
from local.processes.children import running

QUIET = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
"""The children's output is shown to the user; it must not contain Airflow's messages about connections."""


class LakeError(RuntimeError):
    """The lake cannot be filled or read; the message says why."""


def fill_lake(
    environ: dict[str, str],
    lake: str,
    images: Path | None,
    pattern: str,
    state: Path,
    log: Path,
    report: Callable[[str], None],
    *,
    include_hidden: bool = False,
) -> None:
    """Copy images and a model into the lake, with ``python -m local.images.prepare``.

    Parameters
    ----------
    environ : dict
        From :func:`local.environment.local_environment`.
    lake : str
        The lake's root.
    images : Path or None
        Folder of photos. Default: the photos that are in the lake, else the shared folder, else a generated sample.
    pattern : str
        Pattern of the names of the files to import.
    state : Path
        Folder for exported models and the generated sample.
    log : Path
        Log of the child process; its standard output goes to ``report``.
    report : callable
        Prints one line for the user.
    include_hidden : bool
        Whether hidden files are loaded too.

    Raises
    ------
    LakeError
        If it fails. The message is the child's last line of output.
    """
    command = [sys.executable, "-m", "local.images.prepare", "--lake", lake, "--pattern", pattern]
    command += ["--state", str(state), *(["--images", str(images.absolute())] if images else [])]
    command += ["--include-hidden"] * include_hidden
    last = "no output"
    # Keras may download the weights.
    child = environ | QUIET | download_settings()
    with running(command, environ=child, log=log, cwd=PROJECT, output=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode(errors="replace").rstrip()
            if text:
                last = text
                report(text)
        code = process.wait()
    if code != 0:
        raise LakeError(last if code == 2 else f"the lake {lake} could not be filled: {last}; see {log}")


def read_summary(environ: dict[str, str], lake: str) -> str:
    """Return the summary of the published run, from ``python -m local.run.summary``.

    Raises
    ------
    LakeError
        If it cannot be read.
    """
    command = [sys.executable, "-m", "local.run.summary", lake]
    done = subprocess.run(command, env=environ | QUIET, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LakeError(f"the lake {lake} cannot be read: {done.stderr.strip()[-2_000:]}")
    return done.stdout.rstrip("\n")
