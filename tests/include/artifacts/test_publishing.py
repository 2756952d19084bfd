"""Publishing models and code: complete before they are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.artifacts import publishing
from include.artifacts.bundle import build_bundle
from include.artifacts.weights import WeightsError
from include.lake.layout import Lake
from include.lake.models import ModelError, find_model
from include.settings.deployment import Settings
from tests.include.wheel_files import DIGEST, export_without_tensorflow

LOCAL = Settings(profile="local", aws_conn_id=None)


def test_model_is_named_only_when_it_is_complete_and_a_repetition_completes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "export_model", export_without_tensorflow)
    put, named = publishing.write_bytes, publishing.name_published_model
    for writes_before_the_failure in range(3):
        lake = Lake(f"file://{tmp_path / str(writes_before_the_failure)}")
        remaining = [writes_before_the_failure]

        def fail_later(original: Any, remaining: list[int]) -> Any:
            def call(*args: Any) -> None:
                if remaining[0] == 0:
                    raise OSError("network")
                remaining[0] -= 1
                original(*args)

            return call

        with monkeypatch.context() as patched:
            patched.setattr(publishing, "write_bytes", fail_later(put, remaining))
            patched.setattr(publishing, "name_published_model", fail_later(named, remaining))
            with pytest.raises(OSError, match="network"):
                publishing.publish_model(lake, "w.h5", tmp_path / "cache", None)
        with pytest.raises(ModelError, match="no model is published"):
            find_model(lake, LOCAL)
        record = publishing.publish_model(lake, "w.h5", tmp_path / "cache", None)
        assert find_model(lake, LOCAL) == record | {"uri": lake.model(DIGEST[:16])}


def test_bundle_is_complete_in_the_folder_that_its_digest_names(tmp_path: Path) -> None:
    bundle, folder = build_bundle(), tmp_path / "code" / build_bundle().digest
    assert publishing.put_bundle(Lake(f"file://{tmp_path}"), bundle, None) == f"file://{folder}"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == bundle.files
    written = {path.name: path.stat().st_ino for path in folder.iterdir()}
    (folder / "pca.py").unlink()
    publishing.put_bundle(Lake(f"file://{tmp_path}"), bundle, None)
    assert (folder / "pca.py").read_bytes() == bundle.files["pca.py"], "a missing file is written"
    kept = {name: inode for name, inode in written.items() if name != "pca.py"}
    assert kept.items() <= {path.name: path.stat().st_ino for path in folder.iterdir()}.items(), "others are not"


def replace_python(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell script stand in for Python, so that the export needs no TensorFlow."""
    program = folder / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr(publishing.sys, "executable", str(program))


def test_failed_export_is_reported_with_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_python(tmp_path, "echo Traceback >&2; echo 'w.h5 is no HDF5 file' >&2; exit 1", monkeypatch)
    with pytest.raises(WeightsError, match=r"could not be exported from w\.h5: w\.h5 is no HDF5 file"):
        publishing.export_model("w.h5", tmp_path)
    replace_python(tmp_path, "kill -9 $$", monkeypatch)
    with pytest.raises(WeightsError, match="no output"):
        publishing.export_model("w.h5", tmp_path)


def test_export_gets_the_weights_and_returns_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""echo "$@" > {tmp_path}/argv; echo 'a warning from TensorFlow'; echo '{{"digest": "ab"}}'"""
    replace_python(tmp_path, script, monkeypatch)
    assert publishing.export_model("w.h5", tmp_path) == {"digest": "ab"}
    argv = (tmp_path / "argv").read_text().split()
    assert argv == ["-m", "spark_jobs.model.export", "--weights", "w.h5", "--output", f"file://{tmp_path}"]
