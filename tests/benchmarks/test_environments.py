from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from benchmarks.pca import sides as pca
from benchmarks.rivals import comparison, environments

NAMES = {side.environment for side in (*comparison.RIVALS, *pca.SIDES) if side.environment}
PINNED = re.compile(r"^([a-z0-9][a-z0-9.-]*)(?:\[[a-z,]+\])?==([^\s;]+)", re.MULTILINE)


def pins(file: Path) -> set[tuple[str, str]]:
    return set(PINNED.findall(file.read_text()))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_rival_has_a_lock_of_its_requirements(name: str) -> None:
    lock = environments.REQUIREMENTS / f"{name}.txt"
    packages = re.split(r"\n(?=[a-z])", lock.read_text())
    assert all("--hash=sha256:" in package for package in packages if PINNED.match(package))
    missing = pins(lock.with_suffix(".in")) - pins(lock)
    assert not missing, f"{name}.txt is older than {name}.in: run `make lock`"
    assert any(package.startswith("tensorflow") for package, _ in pins(lock)) == name.endswith("keras")


def test_changed_requirements_get_a_new_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def install(requirements: Path, folder: Path) -> None:
        made.append(folder)
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()

    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(environments, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(environments, "_install", install)
    (tmp_path / "some.txt").write_text("a==1\n")
    first = environments.installed("some")
    assert environments.installed("some") == first
    assert made == [first.parent.parent]
    (tmp_path / "some.txt").write_text("a==2\n")
    assert environments.installed("some") != first
    assert len(made) == 2


@pytest.mark.slow
def test_an_installation_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(environments, "CACHE", tmp_path / "cache")
    (tmp_path / "broken.txt").write_text("this is not a requirement\n")
    with pytest.raises(SystemExit, match="uv pip sync failed with exit code 2"):
        environments.installed("broken")
    assert list((tmp_path / "cache").iterdir()) == []


def test_versions_are_those_of_the_environment() -> None:
    found = environments.versions(Path(sys.executable), ["pyspark", "ai-edge-litert", "no-such-package"])
    assert found.keys() == {"pyspark", "ai-edge-litert"}
