"""The commands `make model`, `make wheels` and `make publish`: never random weights, and errors as one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from include.artifacts import __main__ as command
from include.artifacts import publishing
from include.artifacts.bundle import build_bundle
from include.artifacts.weights import WeightsError
from include.artifacts.wheelhouse import ARCHITECTURES, RECORD_FILE, find_wheelhouse, requirements_digest
from include.artifacts.wheels import WheelhouseError
from include.lake.layout import Lake
from include.lake.models import find_model
from include.settings.deployment import Settings
from tests.include.wheel_files import DIGEST, export_without_tensorflow, make_wheel


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The export without TensorFlow, and wheels without an index; returns the weights that were exported."""
    exported: list[str] = []

    def export(weights: str, cache: Path) -> dict[str, Any]:
        exported.append(weights)
        return export_without_tensorflow(weights, cache)

    def build(cache: Path) -> Path:
        folder = cache / requirements_digest()
        parts = {}
        for architecture in ARCHITECTURES:
            wheel = make_wheel(folder / architecture, "six-1.17.0-py3-none-any.whl")
            parts[architecture] = {"wheels": [{"name": wheel.name, "bytes": wheel.stat().st_size}]}
        (folder / RECORD_FILE).write_text(json.dumps({"architectures": parts}))
        return folder

    for module in (publishing, command):
        monkeypatch.setattr(module, "export_model", export)
    monkeypatch.setattr(command, "build_wheelhouse", build)
    return exported


def publish(folder: Path, root: str | None = None) -> int:
    root = root or f"file://{folder}/lake"
    return command.main(
        ["publish", "--root", root, "--cache", f"{folder}/cache", "--wheelhouse", f"{folder}/wheels"]
    )  # fmt: skip


def test_publish_uses_the_weights_of_this_machine_and_reports_each_artifact(
    tmp_path: Path, exported: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "include")
    weights = tmp_path / "w.h5"
    weights.touch()
    monkeypatch.setenv("FRUITS_WEIGHTS", str(weights))
    monkeypatch.setenv("FRUITS_LAKE", "s3://production")  # only --root chooses the lake
    assert publish(tmp_path) == 0
    assert exported == [str(weights)]
    lake = Lake(f"file://{tmp_path / 'lake'}")
    assert find_model(lake, Settings(profile="local", aws_conn_id=None))["digest"] == DIGEST
    assert (tmp_path / "lake" / "code" / build_bundle().digest).is_dir()
    assert find_wheelhouse(lake, Settings(aws_conn_id=None)) == f"{lake.root}/wheels/{requirements_digest()}"
    for line in ("Model: file://.*/models/.*MB", "Code: file://.*/code/.*MB", "Wheels: file://.*/wheels/.*MB"):
        assert re.search(line, caplog.text)


def test_publish_without_weights_downloads_them_and_never_uses_random_ones(
    tmp_path: Path, exported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_weights", lambda shared: None)
    assert publish(tmp_path) == 0
    assert exported == ["imagenet"]


def test_model_is_exported_into_the_cache(
    tmp_path: Path, exported: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "include")
    monkeypatch.setattr(command, "find_weights", lambda shared: "w.h5")
    assert command.main(["model", "--cache", str(tmp_path / "cache")]) == 0
    assert exported == ["w.h5"]
    assert f"Model: {tmp_path / 'cache' / DIGEST[:16]}" in caplog.messages


def test_wheels_are_built_without_weights(
    tmp_path: Path, exported: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "include")
    assert command.main(["wheels", "--wheelhouse", str(tmp_path)]) == 0
    assert caplog.messages == [f"Wheels: {tmp_path / requirements_digest()}"]
    assert exported == []


def test_errors_are_one_line_and_exit_code_1(
    tmp_path: Path, exported: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_wheels(cache: Path) -> Path:
        raise WheelhouseError("the wheels for arm64 could not be downloaded")

    def no_weights(shared: Path) -> None:
        raise WeightsError("FRUITS_WEIGHTS='x' is not a file")

    monkeypatch.setattr(command, "build_wheelhouse", no_wheels)
    monkeypatch.setattr(command, "find_weights", lambda shared: "w.h5")
    assert publish(tmp_path, root="bucket") == 1
    assert "ROOT='bucket': expected s3://bucket" in caplog.messages[-1]
    assert exported == [], "an invalid root is refused before the export"
    for arguments in (["wheels"], ["publish", "--root", f"file://{tmp_path}/lake", "--cache", str(tmp_path / "c")]):
        assert command.main(arguments) == 1
        assert caplog.messages[-1] == "the wheels for arm64 could not be downloaded"
    monkeypatch.setattr(command, "find_weights", no_weights)
    assert publish(tmp_path, root="s3://bucket") == 1
    assert caplog.messages[-1] == "FRUITS_WEIGHTS='x' is not a file"
