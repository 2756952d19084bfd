"""Wheels and the lock that names them: which fit the nodes, and whether they are all there."""

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
"""manylinux_2_17 is manylinux2014, the oldest that numpy's and Arrow's kind still build for (PEP 599, PEP 600)."""

MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
"""What Linux calls the architectures of EC2."""


class WheelhouseError(RuntimeError):
    """The wheelhouse cannot be had, or is not whole; the message says what to do."""


@dataclass(frozen=True)
class Requirement:
    """One package of the lock: its normalized name, its version, when it applies, and the files that it may be."""

    name: str
    version: str
    marker: Marker | None
    sha256: frozenset[str]

    def applies(self, architecture: str) -> bool:
        """Tell whether nodes of an architecture need it."""
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
        """Its bytes."""
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """The digest of its content."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def dependencies(self, architecture: str) -> Iterator[str]:
        """Yield the normalized names of what it needs on nodes of an architecture, by its own metadata."""
        with zipfile.ZipFile(self.path) as archive:
            (metadata,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            headers = BytesParser().parsebytes(archive.read(metadata), headersonly=True)
        for text in headers.get_all("Requires-Dist", []):
            dependency = Dependency(str(text))
            if dependency.marker is None or dependency.marker.evaluate({**environment(architecture), "extra": ""}):
                yield canonicalize_name(dependency.name)


def environment(architecture: str) -> dict[str, str]:
    """Return the markers' values on a node."""
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
    """Return the platform tags that nodes take, the best first."""
    machine = MACHINES[architecture]
    numbered = [f"manylinux_2_{minor}_{machine}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
    return [*numbered, f"manylinux2014_{machine}", "any"]


def node_tags(architecture: str) -> frozenset[Tag]:
    """Return the tags of the wheels that nodes take: those of CPython 3.11 on a glibc of 2.34."""
    version = (int(PYTHON_VERSION.split(".")[0]), int(PYTHON_VERSION.split(".")[1]))
    names = platforms(architecture)[:-1]
    own = cpython_tags(version, abis=["cp311"], platforms=names)
    return frozenset(own) | frozenset(compatible_tags(version, interpreter="cp311", platforms=names))


def read_requirements(text: str) -> list[Requirement]:
    """Read a lock as uv writes it: ``name==version [; marker]``, each with its hashes.

    Raises
    ------
    WheelhouseError
        When a line is of another kind, or has no hash: such a package could not be checked.
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
    """Check that a folder is a complete wheelhouse for an architecture, and return its wheels by name.

    Every requirement that applies has exactly one wheel, of its version, with one of its hashes and with tags that
    nodes take; there is nothing else; and what each wheel says that it needs is there, too.

    Raises
    ------
    WheelhouseError
        With everything that is wrong.
    """
    problems: list[str] = []
    wheels: dict[str, Wheel] = {}
    needed = {item.name: item for item in locked if item.applies(architecture)}
    for path in sorted(folder.iterdir()):
        try:
            name, version, _, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            problems.append(f"{path.name} is no wheel")
            continue
        item, wheel = needed.get(name), Wheel(path)
        if item is None:
            problems.append(f"{path.name} is not in the lock")
        elif name in wheels:
            problems.append(f"{path.name} is there beside {wheels[name].name}")
        elif version != Version(item.version):
            problems.append(f"{path.name}: the lock has version {item.version}")
        elif not tags & node_tags(architecture):
            problems.append(
                f"{path.name} does not fit Python {PYTHON_VERSION} on {architecture}, glibc 2.{NEWEST_GLIBC}"
            )
        elif wheel.sha256 not in item.sha256:
            problems.append(f"{path.name} has not a hash of the lock, but {wheel.sha256}")
        else:
            wheels[name] = wheel
    problems += [f"no wheel of {name}=={needed[name].version}" for name in sorted(set(needed) - set(wheels))]
    for owner, wheel in wheels.items():
        missing = sorted(set(wheel.dependencies(architecture)) - set(needed))
        problems += [f"{owner} needs {dependency}, which is not in the lock" for dependency in missing]
    if problems:
        raise WheelhouseError(f"{folder} is no wheelhouse for {architecture}: {'; '.join(problems)}")
    return list(wheels.values())
