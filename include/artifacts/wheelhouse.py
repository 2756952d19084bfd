"""The wheelhouse: the packages that nodes install, in the lake, for both architectures. Nodes then need no internet.

Its folder is ``wheels/<digest of requirements-cluster.txt>``, with ``<architecture>/*.whl`` and ``wheels.json``. This
record is uploaded last, so a wheelhouse that has it is complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from pathlib import Path

from include.artifacts.bundle import PROJECT, REQUIREMENTS_FILE
from include.artifacts.wheels import (
    ABIS,
    PYTHON_VERSION,
    Wheel,
    WheelhouseError,
    check_wheels,
    platforms,
    read_requirements,
)
from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json, write_file, write_json
from include.records import Wheelhouse
from include.settings.deployment import Settings
from include.settings.parameters import DEFAULT_INSTANCE_TYPES

log = logging.getLogger(__name__)

CACHE = PROJECT / ".local" / "wheelhouse"
RECORD_FILE = "wheels.json"
ARCHITECTURES = tuple(DEFAULT_INSTANCE_TYPES)


def requirements_digest(requirements: Path = PROJECT / REQUIREMENTS_FILE) -> str:
    """Return the folder name of a lock's wheelhouse: the first 16 hexadecimal digits of the lock's SHA-256."""
    return hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]


def find_wheelhouse(lake: Lake, settings: Settings) -> str:
    """Return the URI of the wheelhouse for this deployment's ``requirements-cluster.txt``.

    With profile ``local`` this machine is the node and has the packages already, so the lake is not checked.

    Raises
    ------
    WheelhouseError
        When the wheelhouse is missing or incomplete.
    """
    uri = lake.wheels(requirements_digest())
    if settings.profile == "local":
        return uri
    advice = f"Upload it with `make publish ROOT={lake.root}`, from the deployed sources"
    path = LakePath(f"{uri}/{RECORD_FILE}", settings.aws_conn_id)
    if not path.exists():
        raise WheelhouseError(
            f"no wheelhouse at {uri}: expected {RECORD_FILE} there. Without it, nodes cannot install "
            f"{REQUIREMENTS_FILE}. {advice}"
        )
    try:
        record = read_json(path, "`make publish` writes it after all wheels")
        expected = {wheel["name"] for wheel in record["architectures"][settings.architecture]["wheels"]}
    except (KeyError, TypeError, ValueError):
        raise WheelhouseError(f"{path} lists no wheels for {settings.architecture}. {advice}") from None
    folder = LakePath(f"{uri}/{settings.architecture}", settings.aws_conn_id)
    missing = sorted(expected - set(folder.names()))
    if missing or not expected:
        raise WheelhouseError(f"the wheelhouse at {folder} lacks {', '.join(missing) or 'all wheels'}. {advice}")
    return uri


def build_wheelhouse(cache: Path = CACHE, requirements: Path = PROJECT / REQUIREMENTS_FILE) -> Path:
    """Download the wheels for all architectures from the package index that pip uses here, and check them.

    Wheels from an earlier download are used again.

    Parameters
    ----------
    cache : Path
        Folder for wheelhouses on this machine.
    requirements : Path
        The lock.

    Returns
    -------
    Path
        The wheelhouse: one folder per architecture, and the record.

    Raises
    ------
    WheelhouseError
        When a wheel cannot be downloaded or does not match the lock.
    """
    folder = cache / requirements_digest(requirements)
    locked = read_requirements(requirements.read_text(encoding="utf-8"))
    wheels: dict[str, list[Wheel]] = {}
    for architecture in ARCHITECTURES:
        target = folder / architecture
        target.mkdir(parents=True, exist_ok=True)
        try:
            wheels[architecture] = check_wheels(locked, target, architecture)
        except WheelhouseError:
            _download(requirements, architecture, target)
            wheels[architecture] = check_wheels(locked, target, architecture)
        size = sum(wheel.size for wheel in wheels[architecture])
        log.info("%s: %d wheels, %.1f MB", architecture, len(wheels[architecture]), size / 1e6)
    record = _record(requirements, wheels)
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return folder


def _download(requirements: Path, architecture: str, target: Path) -> None:
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--progress-bar", "off"),
        # The lock is complete. ai-edge-litert requires backports-strenum, which is declared for Python 3.10 only.
        *("--require-hashes", "--no-deps", "--ignore-requires-python", "--only-binary", ":all:"),
        *("--implementation", "cp", "--python-version", PYTHON_VERSION),
        *(part for abi in ABIS for part in ("--abi", abi)),
        *(part for platform in platforms(architecture) for part in ("--platform", platform)),
        *("--requirement", str(requirements), "--dest", str(target)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last_lines = [line.strip() for line in done.stderr.splitlines() if line.strip()][-3:]
        raise WheelhouseError(
            f"the wheels for {architecture} could not be downloaded: {' '.join(last_lines) or 'pip printed no error'}. "
            "pip's configuration on this machine (PIP_INDEX_URL, pip.conf) sets the package index"
        )


def _record(requirements: Path, found: dict[str, list[Wheel]]) -> Wheelhouse:
    return {
        "requirements": {"file": REQUIREMENTS_FILE, "sha256": hashlib.sha256(requirements.read_bytes()).hexdigest()},
        "python": PYTHON_VERSION,
        "architectures": {
            architecture: {
                "bytes": sum(wheel.size for wheel in wheels),
                "wheels": [{"name": wheel.name, "bytes": wheel.size, "sha256": wheel.sha256} for wheel in wheels],
            }
            for architecture, wheels in found.items()
        },
    }


def publish_wheelhouse(lake: Lake, folder: Path, aws_conn_id: str | None) -> str:
    """Upload a wheelhouse into the lake, the record last; wheels that are already there are skipped.

    Parameters
    ----------
    lake : Lake
        The target.
    folder : Path
        The folder that :func:`build_wheelhouse` returned.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Returns
    -------
    str
        The wheelhouse's URI.
    """
    uri = lake.wheels(folder.name)
    record: Wheelhouse = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    for architecture, part in record["architectures"].items():
        wheels = part["wheels"]
        for number, wheel in enumerate(wheels, start=1):
            target = LakePath(f"{uri}/{architecture}/{wheel['name']}", aws_conn_id)
            # An upload is complete or absent, and a file name in the lock has exactly one content.
            if target.size() == wheel["bytes"]:
                continue
            write_file(target, folder / architecture / wheel["name"])
            log.info("  %s %d/%d: %s, %.1f MB", architecture, number, len(wheels), wheel["name"], wheel["bytes"] / 1e6)
    write_json(LakePath(f"{uri}/{RECORD_FILE}", aws_conn_id), record)
    return uri
