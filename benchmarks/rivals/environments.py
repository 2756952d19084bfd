"""The rivals' Python environments: installed once from hash-checked requirements, kept for the next time."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.inputs import REPOSITORY

CACHE = REPOSITORY / ".local" / "benchmarks"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
DIGITS = 12


def installed(name: str) -> Path:
    """Return the interpreter of an environment, which is made when it is not there yet.

    Parameters
    ----------
    name : str
        Name of the requirements, as ``ray`` of ``requirements/ray.txt``. Its digest is part of the folder's name, so
        that changed requirements make a new environment.

    Raises
    ------
    SystemExit
        When the installation fails; the message has the end of what the installer said.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    python = _folder(requirements) / "bin" / "python"
    if not python.is_file():
        print(f"installing the environment {name}, once", flush=True)
        _install(requirements, python.parent.parent)
    return python


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of those packages that an environment has, by name."""
    folders = [str(folder) for folder in (python.parent.parent / "lib").glob("python*/site-packages")]
    found = {
        distribution.name.lower().replace("_", "-"): distribution.version
        for distribution in distributions(path=folders)
    }
    return {package: found[package] for package in packages if package in found}


def _folder(requirements: Path) -> Path:
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    return CACHE / f"{requirements.stem}-{digest[:DIGITS]}"


def _install(requirements: Path, folder: Path) -> None:
    """Install beside the folder and rename, so that one that was cut short is never taken for a whole one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        # Relocatable: the scripts of a plain environment name the folder that it was made in.
        _uv("venv", "--quiet", "--clear", "--relocatable", f"--python={sys.executable}", str(unfinished))
        # Compiled now, so that a first lap does not do it.
        python = unfinished / "bin" / "python"
        options = ("--quiet", "--require-hashes", "--compile-bytecode", f"--python={python}")
        _uv("pip", "sync", *options, str(requirements))
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _uv(*arguments: str) -> None:
    # TMPDIR and the like stay; a virtual environment that is active must not be the one that is written to.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = [str(Path(sys.executable).parent / "uv"), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        said = "\n".join(result.stderr.splitlines()[-10:])
        raise SystemExit(f"uv {' '.join(arguments[:2])} failed with exit code {result.returncode}:\n{said}")
