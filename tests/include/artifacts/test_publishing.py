"""Publishing models, code and wheels: complete before they are named, and never random ones by `make publish`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from include.artifacts import publishing
from include.artifacts.bundle import build_bundle
from include.artifacts.weights import WeightsError
from include.artifacts.wheelhouse import ARCHITECTURES, RECORD_FILE, find_wheelhouse, requirements_digest
from include.artifacts.wheels import WheelhouseError
from include.lake.layout import Lake
from include.lake.models import ModelError, find_model
from include.settings.deployment import Settings
from spark_jobs.args import MODEL_FILE, MODEL_RECORD_FILE
from tests.include.wheel_files import make_wheel

LOCAL = Settings(profile="local", aws_conn_id=None)
AWS = Settings(aws_conn_id=None)
DIGEST = "ab" * 32


def wheels_in(folder: Path) -> list[str]:
    return ["--wheelhouse", str(folder / "wheels")]


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The export without TensorFlow, wheels without an index; returns the weights that the export was called with."""
    called: list[str] = []

    def export(weights: str, cache: Path) -> dict[str, Any]:
        called.append(weights)
        source = weights.partition(":")[0] if weights.startswith("random") else "file"
        record = {"digest": DIGEST, "weights": {"source": source}}
        folder = cache / DIGEST[:16]
        folder.mkdir(exist_ok=True)
        (folder / MODEL_FILE).write_bytes(b"TFL3")
        (folder / MODEL_RECORD_FILE).write_text(json.dumps(record))
        return record

    def build(cache: Path) -> Path:
        folder = cache / requirements_digest()
        parts = {}
        for architecture in ARCHITECTURES:
            wheel = make_wheel(folder / architecture, "six-1.17.0-py3-none-any.whl")
            parts[architecture] = {"wheels": [{"name": wheel.name, "bytes": wheel.stat().st_size}]}
        (folder / RECORD_FILE).write_text(json.dumps({"architectures": parts}))
        return folder

    monkeypatch.setattr(publishing, "export_model", export)
    monkeypatch.setattr(publishing, "build_wheelhouse", build)
    return called


@pytest.mark.usefixtures("exported")
def test_published_model_is_the_one_that_runs_find(tmp_path: Path) -> None:
    lake = Lake(f"file://{tmp_path / 'lake'}")
    record = publishing.publish_model(lake, "w.h5", tmp_path / "cache", None)
    assert find_model(lake, LOCAL) == record | {"uri": lake.model(DIGEST[:16])}


@pytest.mark.usefixtures("exported")
@pytest.mark.parametrize("puts_before_the_failure", [0, 1, 2])
def test_model_is_named_only_when_it_is_complete_and_a_repetition_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, puts_before_the_failure: int
) -> None:
    lake = Lake(f"file://{tmp_path / 'lake'}")
    put, named = publishing.write_bytes, publishing.name_published_model
    left = [puts_before_the_failure]

    def fail_later(original: Any) -> Any:
        def call(*args: Any) -> None:
            if left[0] == 0:
                raise OSError("network")
            left[0] -= 1
            original(*args)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(publishing, "write_bytes", fail_later(put))
        patched.setattr(publishing, "name_published_model", fail_later(named))
        with pytest.raises(OSError, match="network"):
            publishing.publish_model(lake, "w.h5", tmp_path / "cache", None)
    with pytest.raises(ModelError, match="no model is published"):
        find_model(lake, LOCAL)
    publishing.publish_model(lake, "w.h5", tmp_path / "cache", None)
    assert find_model(lake, LOCAL)["digest"] == DIGEST


def test_code_bundle_lies_under_its_digest_whole(tmp_path: Path) -> None:
    bundle = build_bundle()
    for _ in range(2):
        folder = publishing.put_bundle(Lake(f"file://{tmp_path}"), bundle, None)
    assert folder == f"file://{tmp_path}/code/{bundle.digest}"
    found = {path.name: path.read_bytes() for path in (tmp_path / "code" / bundle.digest).iterdir()}
    assert found == bundle.files


def test_publish_takes_weights_that_are_there(
    tmp_path: Path, exported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "w.h5"
    weights.touch()
    monkeypatch.setenv("FRUITS_WEIGHTS", str(weights))
    root = f"file://{tmp_path / 'lake'}"
    assert publishing.main(["publish", "--root", root, "--cache", str(tmp_path / "cache"), *wheels_in(tmp_path)]) == 0
    assert exported == [str(weights)]
    assert find_model(Lake(root), LOCAL)["digest"] == DIGEST
    assert (tmp_path / "lake" / "code" / build_bundle().digest).is_dir()
    assert find_wheelhouse(Lake(root), AWS) == f"{root}/wheels/{requirements_digest()}"


def test_publish_tells_where_everything_is_and_how_large(
    tmp_path: Path, exported: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "include")
    publishing.publish(f"file://{tmp_path}/lake", "w.h5", tmp_path / "cache", tmp_path / "wheels")
    assert exported == ["w.h5"]
    for what in ("Model: file://.*/models/.*MB", "Code: file://.*/code/.*MB", "Wheels: file://.*/wheels/.*MB"):
        assert re.search(what, caplog.text)


def test_wheels_that_cannot_be_had_end_the_command_with_a_line(
    tmp_path: Path, exported: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(cache: Path) -> Path:
        raise WheelhouseError("the wheels for arm64 could not be downloaded")

    monkeypatch.setattr(publishing, "build_wheelhouse", fail)
    monkeypatch.setattr(publishing, "find_weights", lambda shared: "w.h5")
    assert publishing.main(["publish", "--root", f"file://{tmp_path}/lake", "--cache", str(tmp_path / "cache")]) == 1
    assert exported == ["w.h5"]
    assert caplog.messages[-1] == "the wheels for arm64 could not be downloaded"


def test_without_weights_publish_downloads_and_never_makes_random_ones(
    tmp_path: Path, exported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "find_weights", lambda shared: None)
    root = f"file://{tmp_path / 'lake'}"
    assert publishing.main(["publish", "--root", root, "--cache", str(tmp_path / "cache"), *wheels_in(tmp_path)]) == 0
    assert exported == ["imagenet"]


def test_wrong_root_and_wrong_weights_end_the_command_with_a_line(
    tmp_path: Path, exported: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(publishing, "find_weights", lambda shared: "w.h5")
    assert publishing.main(["publish", "--root", "bucket", "--cache", str(tmp_path)]) == 1
    assert "ROOT='bucket': expected s3://bucket" in caplog.text
    assert exported == [], "nothing is exported for a root that is none"

    def fail(shared: Path) -> None:
        raise WeightsError("FRUITS_WEIGHTS='x' is not a file")

    monkeypatch.setattr(publishing, "find_weights", fail)
    assert publishing.main(["publish", "--root", "s3://bucket", "--cache", str(tmp_path)]) == 1
    assert "FRUITS_WEIGHTS='x' is not a file" in caplog.text


def export_command(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a script in the place of Python, so that the export takes no TensorFlow."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(publishing.sys, "executable", str(program))


def test_failed_export_is_told_in_its_own_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_command(tmp_path, "echo Traceback >&2; echo 'w.h5 is no HDF5 file' >&2; exit 1", monkeypatch)
    with pytest.raises(WeightsError, match=r"could not be exported from w\.h5: w\.h5 is no HDF5 file"):
        publishing.export_model("w.h5", tmp_path)


def test_export_that_dies_without_a_word_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_command(tmp_path, "kill -9 $$", monkeypatch)
    with pytest.raises(WeightsError, match="no output"):
        publishing.export_model("w.h5", tmp_path)


def test_export_is_asked_for_the_weights_and_answers_with_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"""echo "$@" > {tmp_path}/argv; echo 'a warning of TensorFlow'; echo '{{"digest": "ab"}}'"""
    export_command(tmp_path, script, monkeypatch)
    assert publishing.export_model("w.h5", tmp_path) == {"digest": "ab"}
    argv = (tmp_path / "argv").read_text().split()
    assert argv == ["-m", "spark_jobs.model.export", "--weights", "w.h5", "--output", f"file://{tmp_path}"]


def test_lake_of_the_environment_does_not_decide_where_to_publish(
    tmp_path: Path, exported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRUITS_LAKE", "s3://production")
    publishing.publish(f"file://{tmp_path / 'lake'}", "w.h5", tmp_path / "cache", tmp_path / "wheels")
    assert exported == ["w.h5"]
    assert (tmp_path / "lake" / "models" / "current.json").exists()
