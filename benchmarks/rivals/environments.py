"""Python environments of other projects' packages: installed once from hash-checked requirements, then reused."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path

from benchmarks import REPOSITORY

CACHE = REPOSITORY / ".local" / "environments"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
DIGITS = 12


def installed(name: str) -> Path:
    """Return the Python interpreter of a rival's environment: ``dask-ml`` for ``requirements/dask-ml.txt``."""
    return prepared(REQUIREMENTS / f"{name}.txt")


def prepared(requirements: Path) -> Path:
    """Return the Python interpreter of an environment; install the environment if it does not exist.

    Parameters
    ----------
    requirements : Path
        File of the requirements, with hashes. The folder's name includes the file's digest, so that changed
        requirements get a new environment.

    Raises
    ------
    SystemExit
        If the installation fails; the message has the last lines of the installer's output.
    """
    python = _folder(requirements) / "bin" / "python"
    if not python.is_file():
        print(f"installing the environment {requirements.stem} (only the first time)", flush=True)
        _install(requirements, python.parent.parent)
    return python


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of these packages by name; packages that the environment does not have are omitted."""
    folders = [str(folder) for folder in (python.parent.parent / "lib").glob("python*/site-packages")]
    found = {
        distribution.name.lower().replace("_", "-"): distribution.version
        for distribution in distributions(path=folders)
    }
    return {package: found[package] for package in packages if package in found}


def variables(environ: Mapping[str, str], *, scratch: Path) -> dict[str, str]:
    """Return the environment variables of a rival: without our Spark home, with its scratch files in this folder."""
    kept = {name: value for name, value in environ.items() if name not in ("SPARK_HOME", "VIRTUAL_ENV")}
    return {**kept, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(scratch)}


def _folder(requirements: Path) -> Path:
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    return CACHE / f"{requirements.stem}-{digest[:DIGITS]}"


def _install(requirements: Path, folder: Path) -> None:
    """Install in a temporary folder and rename it: an interrupted installation never looks complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        # Relocatable: otherwise scripts contain the path of the temporary folder.
        _uv("venv", "--quiet", "--clear", "--relocatable", f"--python={sys.executable}", str(unfinished))
        # Bytecode is compiled here, so that the first lap does not include it.
        python = unfinished / "bin" / "python"
        options = ("--quiet", "--require-hashes", "--compile-bytecode", f"--python={python}")
        _uv("pip", "sync", *options, str(requirements))
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _uv(*arguments: str) -> None:
    # Without VIRTUAL_ENV: uv must not install into an active virtual environment.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = [str(Path(sys.executable).parent / "uv"), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        tail = "\n".join(result.stderr.splitlines()[-10:])
        raise SystemExit(f"uv {' '.join(arguments[:2])} failed with exit code {result.returncode}:\n{tail}")
