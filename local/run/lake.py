"""The lake of a local run, filled and read by children in the environment that the run has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from local.environment import PROJECT, download_settings
from local.processes.children import running

QUIET = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
"""What the children print is for a person: nothing of where Airflow found which credentials."""


class LakeError(RuntimeError):
    """The lake cannot be filled or read; the message says why."""


def fill_lake(
    environ: dict[str, str],
    lake: str,
    images: Path | None,
    pattern: str,
    state: Path,
    log: Path,
    say: Callable[[str], None],
) -> None:
    """Bring images and a model into the lake, with ``python -m local.images.prepare``.

    Parameters
    ----------
    environ : dict
        As :func:`local.environment.local_environment` makes it.
    lake : str
        The lake's root.
    images : Path or None
        Folder of photos; by default those that the lake has, else the shared ones, else a generated sample.
    pattern : str
        File names to take.
    state : Path
        Folder for exported models and the generated sample.
    log : Path
        File for what is not for the person.
    say : callable
        Tells a person one line.

    Raises
    ------
    LakeError
        When it fails; the message is its own.
    """
    command = [sys.executable, "-m", "local.images.prepare", "--lake", lake, "--pattern", pattern]
    command += ["--state", str(state), *(["--images", str(images.absolute())] if images else [])]
    last = "it printed nothing"
    # Keras may download the weights.
    child = environ | QUIET | download_settings()
    with running(command, environ=child, log=log, cwd=PROJECT, output=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            text = line.decode(errors="replace").rstrip()
            if text:
                last = text
                say(text)
        code = process.wait()
    if code != 0:
        raise LakeError(last if code == 2 else f"the lake {lake} could not be filled: {last}; see {log}")


def read_summary(environ: dict[str, str], lake: str) -> str:
    """Return the summary of the run that is published, from ``python -m local.run.summary``.

    Raises
    ------
    LakeError
        When it cannot be read.
    """
    command = [sys.executable, "-m", "local.run.summary", lake]
    done = subprocess.run(command, env=environ | QUIET, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LakeError(f"the lake {lake} cannot be read: {done.stderr.strip()[-2_000:]}")
    return done.stdout.rstrip("\n")
