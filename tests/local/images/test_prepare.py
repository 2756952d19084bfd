"""Preparing a lake in a bucket: images and a model, and the reason when they cannot come, on the last line."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.io import store as airflow_store

from include.artifacts import publishing
from include.artifacts.weights import WeightsError
from include.settings.parameters import RunParams
from local.images import model, prepare
from local.images.prepare import main
from local.run.lake import LakeError, fill_lake
from spark_jobs.args import MODEL_FILE, MODEL_FOLDER_DIGITS, MODEL_RECORD_FILE
from tests.s3_store import Store, use_environment

MODEL = b"a model"
DIGEST = hashlib.sha256(MODEL).hexdigest()


def export(weights: str, cache: Path) -> dict[str, Any]:
    """Take the place of the export, which needs TensorFlow and half a minute."""
    folder = cache / DIGEST[:MODEL_FOLDER_DIGITS]
    folder.mkdir(parents=True, exist_ok=True)
    record = {"digest": DIGEST, "weights": {"source": "file", "path": weights}}
    (folder / MODEL_FILE).write_bytes(MODEL)
    (folder / MODEL_RECORD_FILE).write_text(json.dumps(record))
    return record


@pytest.fixture(autouse=True)
def environment(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_environment(monkeypatch, store.url)
    monkeypatch.setattr(airflow_store, "_STORE_CACHE", {})  # its clients have other endpoints
    monkeypatch.setattr(publishing, "export_model", export)
    monkeypatch.setattr(model, "find_weights", lambda shared: "/weights.h5")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("Kiwi 100%/1.jpg", "Lime #1+2/2.jpeg", "Lime #1+2/3.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "images"


def run(lake: str, tmp_path: Path, *options: str) -> int:
    return main(["--lake", lake, "--state", str(tmp_path / "state"), *options])


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    told = capsys.readouterr()
    assert told.err == ""
    return told.out.splitlines()


@pytest.mark.parametrize("folder", ["", "/deep/folder"])
def test_images_and_model_are_in_the_lake(
    store: Store, lake_bucket: str, tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    for added in (2, 0):
        assert run(f"s3://{lake_bucket}{folder}", tmp_path, "--images", str(images)) == 0
        said = lines(capsys)
        assert said[0] == f"images: 2 from {images} ({added} new, 0 removed)"
        assert said[1].startswith("model: weights /weights.h5")
    prefix = f"{folder}/".lstrip("/")
    place = f"{prefix}models/{DIGEST[:MODEL_FOLDER_DIGITS]}"
    assert store.keys(lake_bucket) == {
        *(f"{prefix}data/Kiwi 100%/1.jpg", f"{prefix}data/Lime #1+2/2.jpeg", f"{prefix}.loaded_images.json"),
        *(f"{place}/{MODEL_FILE}", f"{place}/{MODEL_RECORD_FILE}", f"{prefix}models/current.json"),
    }
    assert store.read(lake_bucket, f"{place}/{MODEL_FILE}") == MODEL
    assert json.loads(store.read(lake_bucket, f"{place}/{MODEL_RECORD_FILE}"))["digest"] == DIGEST
    assert json.loads(store.read(lake_bucket, f"{prefix}models/current.json")) == {
        "model": DIGEST[:MODEL_FOLDER_DIGITS]
    }


def test_lake_in_a_folder_is_prepared_the_same(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"file://{tmp_path}/lake", tmp_path, "--images", str(images), "--pattern", "*.png") == 0
    assert lines(capsys)[0] == f"images: 1 from {images} (1 new, 0 removed)"
    assert (tmp_path / "lake" / "data" / "Lime #1+2" / "3.png").read_text() == "Lime #1+2/3.png"
    assert json.loads((tmp_path / "lake/models/current.json").read_text()) == {"model": DIGEST[:MODEL_FOLDER_DIGITS]}


def test_without_a_folder_the_lakes_own_images_are_taken(
    store: Store, lake_bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put(lake_bucket, "data/Kiwi/mine.jpg")
    assert run(f"s3://{lake_bucket}", tmp_path) == 0
    assert lines(capsys)[0] == f"images: as they are in s3://{lake_bucket}/data"
    assert store.keys(lake_bucket, "data/") == {"data/Kiwi/mine.jpg"}


def test_without_any_images_a_sample_is_made_and_said(
    store: Store,
    lake_bucket: str,
    tmp_path: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(prepare, "make_sample", images.rename)
    said: list[str] = []
    prepare.prepare_lake(
        f"s3://{lake_bucket}", None, "*.jpg", tmp_path, said.append, shared=tmp_path / "nothing is shared"
    )
    assert "using a GENERATED SAMPLE" in said[0]
    assert store.keys(lake_bucket, "data/") == {"data/Kiwi 100%/1.jpg"}


def test_missing_images_are_the_last_line_of_exit_code_2(
    store: Store, lake_bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "missing"
    assert run(f"s3://{lake_bucket}", tmp_path, "--images", str(missing)) == 2
    assert lines(capsys)[-1] == f"IMAGES={missing}: not a folder; expected a folder such as IMAGES/<label>/<name>.jpg"
    assert store.keys(lake_bucket) == set()


@pytest.mark.parametrize(("who", "operation"), [("stranger", "HeadBucket"), ("reader", "PutObject")])
def test_keys_that_may_not_are_the_last_line_of_exit_code_2(
    store: Store,
    lake_bucket: str,
    tmp_path: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    who: str,
    operation: str,
) -> None:
    use_environment(monkeypatch, store.url, who)
    assert run(f"s3://{lake_bucket}", tmp_path, "--images", str(images)) == 2
    last = lines(capsys)[-1]
    assert lake_bucket in last
    assert f"when calling the {operation} operation" in last
    assert store.keys(lake_bucket) == set()


def test_model_that_cannot_be_exported_is_the_last_line_of_exit_code_2(
    lake_bucket: str,
    tmp_path: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(weights: str, cache: Path) -> None:
        raise WeightsError(f"the model could not be exported from {weights}: not weights")

    monkeypatch.setattr(publishing, "export_model", fail)
    assert run(f"s3://{lake_bucket}", tmp_path, "--images", str(images)) == 2
    assert lines(capsys)[-1] == "the model could not be exported from /weights.h5: not weights"


def test_person_who_waits_is_told_the_same_line(lake_bucket: str, tmp_path: Path) -> None:
    """Through the real child: its last line becomes the error."""
    said: list[str] = []
    missing = tmp_path / "missing"
    arguments = (f"s3://{lake_bucket}", missing, RunParams.image_pattern, tmp_path / "state", tmp_path / "log")
    with pytest.raises(LakeError, match=rf"^IMAGES={missing}: not a folder; expected a folder such as"):
        fill_lake(dict(os.environ), *arguments, said.append)
    assert len(said) == 1
