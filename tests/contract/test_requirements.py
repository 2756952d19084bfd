"""The lock files: the two of production are subsets of the one for development."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["requirements.txt", "requirements-airflow.txt", "requirements-cluster.txt"]


def pins(name: str) -> dict[str, set[str]]:
    """Map each package to its pinned versions, which may differ between platforms."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        match = re.match(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", line)
        if match:
            found.setdefault(match[1].lower(), set()).add(match[2])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_pinned_and_hashed_and_no_registry_is_named(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", "\n" + re.sub(r"^\s*#.*\n", "", text, flags=re.M))
    packages = [block for block in blocks if block.strip()]
    assert len(packages) >= 5
    assert [block.split()[0] for block in packages if "==" not in block or "--hash=sha256:" not in block] == []
    assert not re.search(r"--(extra-)?index-url|--find-links|https?://", text)


@pytest.mark.parametrize("name", NAMES[1:])
def test_locks_of_production_are_subsets_of_the_tested_lock(name: str) -> None:
    whole, part = pins(NAMES[0]), pins(name)
    differing = {package: versions for package, versions in part.items() if not versions <= whole.get(package, set())}
    assert not differing, f"{name} differs from {NAMES[0]}, which the tests use: run `make lock`"


@pytest.mark.parametrize(
    ("name", "forbidden"),
    [
        ("requirements-airflow.txt", {"tensorflow", "tensorflow-cpu", "keras", "pyspark", "moto", "pytest"}),
        ("requirements-cluster.txt", {"tensorflow", "tensorflow-cpu", "keras", "apache-airflow", "pyspark", "boto3"}),
    ],
)
def test_production_installs_nothing_that_it_does_not_need(name: str, forbidden: set[str]) -> None:
    assert not forbidden & set(pins(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_requirement_is_locked(name: str) -> None:
    locked = pins(name)
    for line in (ROOT / name.replace(".txt", ".in")).read_text(encoding="utf-8").splitlines():
        match = re.match(r"^([A-Za-z0-9._-]+)(?:\[[^]]*])?(?:==([^\s;]+))?", line)
        if match and not line.startswith(("#", "-r")):
            versions = locked.get(match[1].lower(), set())
            assert versions, f"{match[1]} of the .in file is not in {name}: run `make lock`"
            assert match[2] is None or match[2] in versions, f"{match[1]}=={match[2]} is not in {name}: run `make lock`"


def test_cluster_has_what_the_jobs_import() -> None:
    assert {"ai-edge-litert", "numpy", "pandas", "pillow", "pyarrow"} <= set(pins("requirements-cluster.txt"))
