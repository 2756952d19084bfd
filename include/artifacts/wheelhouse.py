"""The wheelhouse: the packages that nodes install, for both architectures, in the bucket. Nodes need no internet.

``wheels/<digest of requirements-cluster.txt>/<architecture>/*.whl``, and ``wheels.json``, put there last: where it is,
all is. ``make publish ROOT=s3://bucket`` makes it; ``make wheels`` only downloads, into .local/wheelhouse.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from include.artifacts.bundle import REQUIREMENTS_FILE
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
from include.lake.objects import lake_path, read_json, write_file, write_json
from include.settings.deployment import Settings
from include.settings.parameters import DEFAULT_INSTANCE_TYPES

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".local" / "wheelhouse"
RECORD_FILE = "wheels.json"
ARCHITECTURES = tuple(DEFAULT_INSTANCE_TYPES)


def requirements_digest(requirements: Path = PROJECT / REQUIREMENTS_FILE) -> str:
    """Return the name of the wheelhouse of a lock: 16 hexadecimal digits of its sha256."""
    return hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]


def find_wheelhouse(lake: Lake, settings: Settings) -> str:
    """Return the URI of the wheelhouse of this deployment's ``requirements-cluster.txt``.

    With profile ``local`` the nodes are this machine, which has the packages: nothing is looked for.

    Raises
    ------
    WheelhouseError
        When it is not in the lake, or not whole.
    """
    uri = lake.wheels(requirements_digest())
    if settings.profile == "local":
        return uri
    advice = f"Put it there with `make publish ROOT={lake.root}`, from the sources that are deployed"
    path = lake_path(f"{uri}/{RECORD_FILE}", settings.aws_conn_id)
    if not path.exists():
        raise WheelhouseError(
            f"no wheelhouse at {uri}: expected {RECORD_FILE} there, and without it nodes cannot install "
            f"{REQUIREMENTS_FILE}. {advice}"
        )
    try:
        record = read_json(path, "`make publish` writes it when all wheels are there")
        expected = {wheel["name"] for wheel in record["architectures"][settings.architecture]["wheels"]}
    except (KeyError, TypeError, ValueError):
        raise WheelhouseError(f"{path} lists no wheels for {settings.architecture}. {advice}") from None
    folder = lake_path(f"{uri}/{settings.architecture}", settings.aws_conn_id)
    missing = sorted(expected - {item.name for item in folder.iterdir()}) if folder.exists() else sorted(expected)
    if missing or not expected:
        raise WheelhouseError(f"the wheelhouse at {folder} lacks {', '.join(missing) or 'all wheels'}. {advice}")
    return uri


def build_wheelhouse(cache: Path = CACHE, requirements: Path = PROJECT / REQUIREMENTS_FILE) -> Path:
    """Download the wheels of all architectures from the package index that pip uses on this machine, and check them.

    What an earlier call has downloaded is taken again.

    Parameters
    ----------
    cache : Path
        Where wheelhouses are kept on this machine.
    requirements : Path
        The lock.

    Returns
    -------
    Path
        The wheelhouse: a folder an architecture, and the record.

    Raises
    ------
    WheelhouseError
        When a wheel cannot be had, or is not what was locked.
    """
    folder = cache / requirements_digest(requirements)
    locked = read_requirements(requirements.read_text(encoding="utf-8"))
    found: dict[str, list[Wheel]] = {}
    for architecture in ARCHITECTURES:
        target = folder / architecture
        target.mkdir(parents=True, exist_ok=True)
        try:
            found[architecture] = check_wheels(locked, target, architecture)
        except WheelhouseError:
            _download(requirements, architecture, target)
            found[architecture] = check_wheels(locked, target, architecture)
        log.info("%s: %s", architecture, _told(found[architecture]))
    record = _record(requirements, found)
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return folder


def _download(requirements: Path, architecture: str, target: Path) -> None:
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--progress-bar", "off"),
        # The lock is complete. ai-edge-litert asks for backports-strenum on every Python, which is declared for 3.10.
        *("--require-hashes", "--no-deps", "--ignore-requires-python", "--only-binary", ":all:"),
        *("--implementation", "cp", "--python-version", PYTHON_VERSION),
        *(part for abi in ABIS for part in ("--abi", abi)),
        *(part for platform in platforms(architecture) for part in ("--platform", platform)),
        *("--requirement", str(requirements), "--dest", str(target)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = [line.strip() for line in done.stderr.splitlines() if line.strip()][-3:]
        raise WheelhouseError(
            f"the wheels for {architecture} could not be downloaded: {' '.join(told) or 'pip said nothing'}. pip's own "
            "configuration on this machine (PIP_INDEX_URL, pip.conf) says from where"
        )


def _record(requirements: Path, found: dict[str, list[Wheel]]) -> dict[str, Any]:
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


def _told(wheels: Sequence[Wheel]) -> str:
    return f"{len(wheels)} wheels, {sum(wheel.size for wheel in wheels) / 1e6:.1f} MB"


def publish_wheelhouse(lake: Lake, folder: Path, aws_conn_id: str | None) -> str:
    """Put a wheelhouse into the lake, the record last; what is there already is left as it is.

    Parameters
    ----------
    lake : Lake
        Where to.
    folder : Path
        What :func:`build_wheelhouse` returned.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Returns
    -------
    str
        Its URI.
    """
    uri = lake.wheels(folder.name)
    record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    for architecture, part in record["architectures"].items():
        wheels = part["wheels"]
        for number, wheel in enumerate(wheels, start=1):
            target = lake_path(f"{uri}/{architecture}/{wheel['name']}", aws_conn_id)
            # An upload is whole or not there, and a name of the lock has these bytes only.
            if target.exists() and target.stat().st_size == wheel["bytes"]:
                continue
            write_file(target, folder / architecture / wheel["name"])
            log.info("  %s %d/%d: %s, %.1f MB", architecture, number, len(wheels), wheel["name"], wheel["bytes"] / 1e6)
    write_json(lake_path(f"{uri}/{RECORD_FILE}", aws_conn_id), record)
    return uri


def main() -> int:
    """Download the wheelhouse of this project into .local/wheelhouse."""
    try:
        log.info("Wheels: %s", build_wheelhouse())
    except (WheelhouseError, OSError) as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    # By force: Airflow, once imported, has set up its own.
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    raise SystemExit(main())
