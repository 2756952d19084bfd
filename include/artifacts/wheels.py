"""Wheels and the lock that names them: which wheels fit the nodes, and whether all of them are present."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from functools import cached_property
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement as Dependency
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

PYTHON_VERSION = "3.11"
ABIS = ("cp311", "abi3", "none")

NEWEST_GLIBC = 34
"""Minor version of Amazon Linux 2023's glibc, 2.34 (AL2023 User Guide, "Core toolchain packages glibc, gcc,
binutils"); EMR's releases from 7.0 on run on it (EMR Management Guide, "Using the default Amazon Linux AMI")."""

OLDEST_GLIBC = 17
"""manylinux_2_17 is manylinux2014, the oldest for which numpy or Arrow still have wheels (PEP 599, PEP 600)."""

MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
"""EC2's name of an architecture to that of Linux."""


class WheelhouseError(RuntimeError):
    """The wheelhouse is missing, incomplete or cannot be downloaded; the message names the remedy."""


@dataclass(frozen=True)
class Requirement:
    """One package of the lock: normalized name, version, environment marker, and the digests of its permitted files."""

    name: str
    version: str
    marker: Marker | None
    sha256: frozenset[str]

    def applies(self, architecture: str) -> bool:
        """Return whether nodes of an architecture need it."""
        return self.marker is None or self.marker.evaluate(environment(architecture))


@dataclass(frozen=True)
class Wheel:
    """One file of a wheelhouse."""

    path: Path

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def size(self) -> int:
        """The file's size in bytes."""
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file's content."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def dependencies(self, architecture: str) -> Iterator[str]:
        """Yield the normalized names of the packages that its metadata requires on nodes of an architecture."""
        with zipfile.ZipFile(self.path) as archive:
            (metadata,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            headers = BytesParser().parsebytes(archive.read(metadata), headersonly=True)
        for text in headers.get_all("Requires-Dist", []):
            dependency = Dependency(str(text))
            if dependency.marker is None or dependency.marker.evaluate({**environment(architecture), "extra": ""}):
                yield canonicalize_name(dependency.name)


def environment(architecture: str) -> dict[str, str]:
    """Return the values of the environment markers on a node (PEP 508)."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{PYTHON_VERSION}.0",
        "os_name": "posix",
        "platform_machine": MACHINES[architecture],
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{PYTHON_VERSION}.0",
        "python_version": PYTHON_VERSION,
        "sys_platform": "linux",
    }


def platforms(architecture: str) -> list[str]:
    """Return the platform tags that nodes support, the best first."""
    machine = MACHINES[architecture]
    numbered = [f"manylinux_2_{minor}_{machine}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
    return [*numbered, f"manylinux2014_{machine}", "any"]


def node_tags(architecture: str) -> frozenset[Tag]:
    """Return the wheel tags that nodes support: CPython 3.11 with glibc 2.34."""
    version = (int(PYTHON_VERSION.split(".")[0]), int(PYTHON_VERSION.split(".")[1]))
    names = platforms(architecture)[:-1]
    own = cpython_tags(version, abis=["cp311"], platforms=names)
    return frozenset(own) | frozenset(compatible_tags(version, interpreter="cp311", platforms=names))


def read_requirements(text: str) -> list[Requirement]:
    """Read a lock as uv writes it: ``name==version [; marker]``, each with its hashes.

    Raises
    ------
    WheelhouseError
        When a line has another form or no hash, so that the package could not be checked.
    """
    lines = re.sub(r"\\\n", " ", text).splitlines()
    found = []
    for line in lines:
        stripped = re.sub(r"(^|\s)#.*", "", line).strip()
        if not stripped:
            continue
        match = re.fullmatch(
            r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?:\s*;\s*(?P<marker>.*?))?\s+(?P<hashes>--hash=.*)", stripped
        )
        hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", match["hashes"])) if match else frozenset()
        if match is None or not hashes:
            raise WheelhouseError(f"{stripped[:120]!r} in the lock: expected name==version with --hash=sha256:…")
        marker = Marker(match["marker"]) if match["marker"] else None
        found.append(Requirement(canonicalize_name(match["name"]), match["version"], marker, hashes))
    return found


def check_wheels(locked: Sequence[Requirement], folder: Path, architecture: str) -> list[Wheel]:
    """Check that a folder is a complete wheelhouse for an architecture, and return its wheels in order of name.

    Every requirement that applies needs exactly one wheel: with its version, one of its hashes, and tags that nodes
    support. Other files are not allowed. Every dependency of a wheel must be in the lock.

    Raises
    ------
    WheelhouseError
        The message lists every problem.
    """
    problems: list[str] = []
    wheels: dict[str, Wheel] = {}
    needed = {item.name: item for item in locked if item.applies(architecture)}
    for path in sorted(folder.iterdir()):
        try:
            name, version, _, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            problems.append(f"{path.name} is not a wheel")
            continue
        item, wheel = needed.get(name), Wheel(path)
        if item is None:
            problems.append(f"{path.name} is not in the lock")
        elif name in wheels:
            problems.append(f"{path.name} is a second wheel of the package, next to {wheels[name].name}")
        elif version != Version(item.version):
            problems.append(f"{path.name}: the lock has version {item.version}")
        elif not tags & node_tags(architecture):
            problems.append(
                f"{path.name} does not fit Python {PYTHON_VERSION} on {architecture}, glibc 2.{NEWEST_GLIBC}"
            )
        elif wheel.sha256 not in item.sha256:
            problems.append(f"{path.name} has the hash {wheel.sha256}, which is not in the lock")
        else:
            wheels[name] = wheel
    problems += [f"no wheel for {name}=={needed[name].version}" for name in sorted(set(needed) - set(wheels))]
    for owner, wheel in wheels.items():
        missing = sorted(set(wheel.dependencies(architecture)) - set(needed))
        problems += [f"{owner} needs {dependency}, which is not in the lock" for dependency in missing]
    if problems:
        raise WheelhouseError(f"{folder} is not a complete wheelhouse for {architecture}: {'; '.join(problems)}")
    return list(wheels.values())
