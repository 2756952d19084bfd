"""Build the folder to upload to Amazon MWAA: ``make mwaa``.

MWAA copies a folder of DAGs from S3, which is on ``sys.path``, and unpacks ``plugins.zip``. It copies no other files of
a project. Therefore ``include/``, ``spark_jobs/`` and ``requirements-cluster.txt`` are next to the DAGs, where the code
bundle finds them. A startup script sets the environment variables. The versions are from the MWAA User Guide, "Apache
Airflow versions" (read in November 2026).
"""

from __future__ import annotations

import argparse
import logging
import re
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from include.artifacts.bundle import PROJECT, REQUIREMENTS_FILE, zip_sources
from include.settings.deployment import SettingsError, read_settings

log = logging.getLogger(__name__)

TARGET = PROJECT / ".local" / "mwaa"

AIRFLOW_VERSION = "3.3.1"
"""The newest Airflow that MWAA offers (since 2026-09-01, on Python 3.12)."""

AIRFLOW_ITSELF = ("apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk")
"""Packages that MWAA's image provides: a requirements file must not replace them."""

PINNED_BY_MWAA = frozenset(
    {
        *("billiard", "celery", "flask", "flask-appbuilder", "flask-babel", "flask-jwt-extended", "flask-limiter"),
        *("flask-login", "flask-session", "flask-sqlalchemy", "flask-wtf", "fluent-logger", "gevent", "greenlet"),
        *("gunicorn", "kombu", "sqlalchemy", "sqlalchemy-utils", "statsd", "vine", "watchtower"),
    }
)
"""Packages whose versions MWAA's image always pins. If a constraints file has another version, pip finds no solution
and installs nothing (aws/amazon-mwaa-docker-images, etc/mwaa_essential_constraints.txt of 3.3.1)."""

CONSTRAINTS_FILE = "constraints.txt"
DAGS_ON_MWAA = "/usr/local/airflow/dags"
"""Folder of the DAGs on MWAA, which also contains the constraints (MWAA User Guide, "Specifying newer provider
packages")."""

PLUGIN_CODE = "fruit_features_code"
"""Folder in ``plugins.zip`` with the code of the page of reports: MWAA's web server has no DAGs folder."""

PLUGIN_PATH = f'''"""Append this copy of the code to sys.path: a copy next to the DAGs is newer and comes first."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent / "{PLUGIN_CODE}"))
'''

PACKAGES = ("include", "spark_jobs")


class MwaaError(RuntimeError):
    """The folder cannot be built; the message says why."""


def build(target: Path, settings: Mapping[str, str], root: Path = PROJECT) -> None:
    """Build the folder, and replace an earlier build.

    Parameters
    ----------
    target : Path
        The folder.
    settings : mapping
        ``FRUITS_…`` variables of the environment, for the startup script.
    root : Path, optional
        This project.

    Raises
    ------
    MwaaError
        If the folder contains other files, a setting is wrong, or a source is missing.
    """
    if target.exists() and any(target.iterdir()) and not (target / "startup.sh").is_file():
        raise MwaaError(f"{target} is not empty and does not contain an earlier build: name another folder")
    script = startup_script(settings)
    requirements = lock_without_hashes((root / "requirements-airflow.txt").read_text(encoding="utf-8"))
    shutil.rmtree(target, ignore_errors=True)
    dags = target / "dags"
    copy_files(code_files(root), root, dags)
    for path in sorted((root / "dags").glob("*.py")):
        shutil.copyfile(path, dags / path.name)
    (dags / ".airflowignore").write_text("".join(f"{name}/\n" for name in PACKAGES), encoding="utf-8")
    (dags / CONSTRAINTS_FILE).write_text(constraints(requirements), encoding="utf-8")
    (target / "requirements.txt").write_text(requirements_text(requirements), encoding="utf-8")
    (target / "startup.sh").write_text(script, encoding="utf-8")
    (target / "plugins.zip").write_bytes(plugins_zip(root, target / "plugins"))


def code_files(root: Path) -> list[Path]:
    """Return the files of the packages that production needs, and the nodes' requirements.

    Raises
    ------
    MwaaError
        If one of the packages is missing.
    """
    found = [root / REQUIREMENTS_FILE]
    for name in PACKAGES:
        files = [path for path in (root / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        if not files:
            raise MwaaError(f"{root / name} contains no files: build from a clone of the project")
        found += files
    return sorted(found)


def copy_files(files: Iterable[Path], root: Path, target: Path) -> None:
    """Copy files to the same places under another folder."""
    for path in files:
        copy = target / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def plugins_zip(root: Path, folder: Path) -> bytes:
    """Return ``plugins.zip``: the plugins, and the code that they import.

    Parameters
    ----------
    root : Path
        This project.
    folder : Path
        A temporary folder for the files of the zip.
    """
    folder.mkdir(parents=True)
    try:
        for path in sorted((root / "plugins").glob("*.py")):
            shutil.copyfile(path, folder / path.name)
        (folder / "fruit_features_path.py").write_text(PLUGIN_PATH, encoding="utf-8")
        (folder / ".airflowignore").write_text(f"{PLUGIN_CODE}/\n", encoding="utf-8")
        copy_files(code_files(root), root, folder / PLUGIN_CODE)
        return zip_sources(folder, [path for path in folder.rglob("*") if path.is_file()])
    finally:
        shutil.rmtree(folder)


def lock_without_hashes(lock: str) -> dict[str, str]:
    """Return the pinned packages of a lock: from name and extras to the rest of the line (version and marker).

    Raises
    ------
    MwaaError
        If the lock pins no package.
    """
    found = re.findall(r"^([A-Za-z0-9._-]+(?:\[[^\]]+\])?)==([^\s;\\]+)( ; [^\\\n]+)?", lock, flags=re.M)
    pinned: dict[str, str] = {}
    for name, version, marker in found:
        line = f"=={version}{(marker or '').rstrip()}"
        pinned[name] = f"{pinned[name]}\n{name}{line}" if name in pinned else line
    if not pinned:
        raise MwaaError("requirements-airflow.txt pins no package: compile it with `make lock`")
    return pinned


def constraints(pinned: Mapping[str, str]) -> str:
    """Return the constraints: our lock with MWAA's version of Airflow, without the packages that MWAA pins."""
    theirs = PINNED_BY_MWAA.union(AIRFLOW_ITSELF)
    lines = [f"apache-airflow=={AIRFLOW_VERSION}"]
    lines += [f"{name}{rest}" for name, rest in sorted(pinned.items()) if name.partition("[")[0].lower() not in theirs]
    return "\n".join(lines) + "\n"


def requirements_text(pinned: Mapping[str, str]) -> str:
    """Return ``requirements.txt``: packages that MWAA's image lacks or has in an older version.

    Raises
    ------
    MwaaError
        If the lock does not pin one of them.
    """
    providers = ("apache-airflow-providers-amazon", "apache-airflow-providers-standard")
    needed = (*providers, "numpy", "obstore", "pillow", "pillow-heif", "pyarrow")
    missing = sorted(set(needed) - set(pinned))
    if missing:
        raise MwaaError(f"requirements-airflow.txt does not pin {', '.join(missing)}: compile it with `make lock`")
    lines = [f'--constraint "{DAGS_ON_MWAA}/{CONSTRAINTS_FILE}"']
    lines += [f"{name}{pinned[name]}" for name in needed]
    return "\n".join(lines) + "\n"


def startup_script(settings: Mapping[str, str]) -> str:
    """Return the script that sets the environment; MWAA runs it before Airflow starts.

    Raises
    ------
    MwaaError
        If a setting is wrong.
    """
    try:
        read_settings(settings)
    except SettingsError as error:
        raise MwaaError(str(error)) from error
    exports = [f"export {name}={shlex.quote(value)}" for name, value in sorted(settings.items())]
    head = ["#!/bin/sh", "# Settings of the fruit features (docs/dags.md); written by `make mwaa`."]
    return "\n".join([*head, *(exports or ["# none: make mwaa SETTINGS=file"])]) + "\n"


def read_environment_file(path: Path) -> dict[str, str]:
    """Return the variables of an environment file, such as ``make settings`` prints.

    Raises
    ------
    MwaaError
        If the file cannot be read, or a line is neither ``FRUITS_NAME=value`` nor a comment; the message has the line's
        number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MwaaError(f"SETTINGS={path} cannot be read: {error}") from error
    found = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator or not re.fullmatch(r"FRUITS_[A-Z_]+", name.strip()):
            raise MwaaError(f"{path}, line {number}: {line!r}; expected FRUITS_NAME=value, or a comment")
        found[name.strip()] = value.strip()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m include.deployment mwaa", description="Build the folder to upload to Amazon MWAA."
    )
    parser.add_argument("--target", type=Path, default=TARGET, help="the folder; .local/mwaa by default")
    parser.add_argument("--settings", type=Path, help="environment file with the settings (make settings > file)")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        build(options.target, read_environment_file(options.settings) if options.settings else {})
    except (MwaaError, OSError) as error:
        log.error("%s", error)
        return 1
    log.info("Built %s for Airflow %s on MWAA; docs/runbook.md describes the upload", options.target, AIRFLOW_VERSION)
    return 0
