"""Preparing a lake: it gets images and a model, or the last line is the reason why not."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from include.artifacts import publishing
from include.artifacts.weights import WeightsError
from include.settings.parameters import RunParams
from local.images import model, prepare
from local.images.prepare import main
from local.run.lake import LakeError, fill_lake
from spark_jobs.args import MODEL_FILE, MODEL_FOLDER_DIGITS, MODEL_RECORD_FILE, NOT_LOADED_FILE
from tests.s3_store import Store, use_environment

pytestmark = pytest.mark.slow  # starts an S3 store

MODEL = b"a model"
DIGEST = hashlib.sha256(MODEL).hexdigest()


def export(weights: str, cache: Path) -> dict[str, Any]:
    """Take the place of the export, which needs TensorFlow and 30 s."""
    folder = cache / DIGEST[:MODEL_FOLDER_DIGITS]
    folder.mkdir(parents=True, exist_ok=True)
    record = {"digest": DIGEST, "weights": {"source": "file", "path": weights}}
    (folder / MODEL_FILE).write_bytes(MODEL)
    (folder / MODEL_RECORD_FILE).write_text(json.dumps(record))
    return record


@pytest.fixture(autouse=True)
def environment(store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_environment(monkeypatch, store.url)
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
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out.splitlines()


def test_images_and_model_are_in_the_lake(
    store: Store, lake_bucket: str, tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("deep/folder/", ""):
        for added in (2, 0):
            assert run(f"s3://{lake_bucket}/{folder}".rstrip("/"), tmp_path, "--images", str(images)) == 0
            printed = lines(capsys)
            assert printed[0] == f"images: 2 from {images} ({added} new, 0 removed)"
            assert printed[1] == f"not loaded: 1 file in {images} left out by name, not matching '*.jpg,*.jpeg': 1 .png"
            assert printed[2].startswith("model: weights /weights.h5")
        model_folder = f"{folder}models/{DIGEST[:MODEL_FOLDER_DIGITS]}"
        expected = {
            f"{folder}data/{NOT_LOADED_FILE}",
            *(f"{folder}data/Kiwi 100%/1.jpg", f"{folder}data/Lime #1+2/2.jpeg", f"{folder}.loaded_images.json"),
            *(f"{model_folder}/{MODEL_FILE}", f"{model_folder}/{MODEL_RECORD_FILE}", f"{folder}models/current.json"),
        }
        assert {key for key in store.keys(lake_bucket, folder) if folder or not key.startswith("deep/")} == expected
        assert store.read(lake_bucket, f"{model_folder}/{MODEL_FILE}") == MODEL
        assert json.loads(store.read(lake_bucket, f"{model_folder}/{MODEL_RECORD_FILE}"))["digest"] == DIGEST
        current = json.loads(store.read(lake_bucket, f"{folder}models/current.json"))
        assert current == {"model": DIGEST[:MODEL_FOLDER_DIGITS]}


def test_lake_in_a_folder_is_prepared_in_the_same_way(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(f"file://{tmp_path}/lake", tmp_path, "--images", str(images), "--pattern", "*.png") == 0
    assert lines(capsys)[0] == f"images: 1 from {images} (1 new, 0 removed)"
    assert (tmp_path / "lake" / "data" / "Lime #1+2" / "3.png").read_text() == "Lime #1+2/3.png"
    assert json.loads((tmp_path / "lake/models/current.json").read_text()) == {"model": DIGEST[:MODEL_FOLDER_DIGITS]}


def test_a_label_that_disappears_is_a_warning_in_the_terminal_and_hidden_files_are_counted(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("banana/1.PNG", "cherry/1.HEIC", "Kiwi 100%/.DS_Store", "__MACOSX/Kiwi 100%/._1.jpg"):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        (images / name).touch()
    assert run(f"file://{tmp_path}/lake", tmp_path, "--images", str(images)) == 0
    first, *others, warning = lines(capsys)[:4]
    assert first == f"images: 2 from {images} (2 new, 0 removed)"
    assert others == [
        f"not loaded: 3 files in {images} left out by name, not matching '*.jpg,*.jpeg': 2 .png, 1 .heic",
        f"not loaded: 2 hidden or system files in {images} left out (include_hidden=true includes them)",
    ]
    assert warning.startswith(f"WARNING: 2 labels in {images} without any image: banana, cherry. No file name there")
    assert warning.endswith("image_pattern=all includes 3 of the 3 skipped files")
    options = ("--images", str(images), "--pattern", "all", "--include-hidden")
    assert run(f"file://{tmp_path}/lake", tmp_path, *options) == 0
    assert lines(capsys)[0] == f"images: 6 from {images} (4 new, 0 removed)"


def test_without_a_folder_the_images_in_the_lake_are_used(
    store: Store, lake_bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.put(lake_bucket, "data/Kiwi/mine.jpg")
    assert run(f"s3://{lake_bucket}", tmp_path) == 0
    assert lines(capsys)[0] == f"images: as they are in s3://{lake_bucket}/data"
    assert store.keys(lake_bucket, "data/") == {"data/Kiwi/mine.jpg"}


def test_without_any_images_a_sample_is_generated_and_reported(
    store: Store, lake_bucket: str, tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "make_sample", images.rename)
    printed: list[str] = []
    prepare.prepare_lake(f"s3://{lake_bucket}", None, "*.jpg", tmp_path, printed.append, shared=tmp_path / "missing")
    assert "using a GENERATED SAMPLE" in printed[0]
    assert store.keys(lake_bucket, "data/") == {"data/Kiwi 100%/1.jpg", f"data/{NOT_LOADED_FILE}"}


def test_reason_of_a_failure_is_the_last_line_and_the_exit_code_is_2(
    store: Store,
    lake_bucket: str,
    tmp_path: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def last_line(folder: Path) -> str:
        assert run(f"s3://{lake_bucket}", tmp_path, "--images", str(folder)) == 2
        return lines(capsys)[-1]

    missing = tmp_path / "missing"
    assert last_line(missing) == f"IMAGES={missing}: not a folder; expected a folder such as IMAGES/<label>/<name>.jpg"
    for identity, operation in (("stranger", "HeadBucket"), ("reader", "PutObject")):
        with monkeypatch.context() as patched:
            use_environment(patched, store.url, identity)
            line = last_line(images)
        assert lake_bucket in line
        assert f"when calling the {operation} operation" in line
    assert store.keys(lake_bucket) == set()

    def fail(weights: str, cache: Path) -> None:
        raise WeightsError(f"the model could not be exported from {weights}: not weights")

    monkeypatch.setattr(publishing, "export_model", fail)
    assert last_line(images) == "the model could not be exported from /weights.h5: not weights"


def test_reason_of_a_failed_child_process_is_reported(lake_bucket: str, tmp_path: Path) -> None:
    printed: list[str] = []
    missing = tmp_path / "missing"
    arguments = (f"s3://{lake_bucket}", missing, RunParams.image_pattern, tmp_path / "state", tmp_path / "log")
    with pytest.raises(LakeError, match=rf"^IMAGES={missing}: not a folder; expected a folder such as"):
        fill_lake(dict(os.environ), *arguments, printed.append)
    assert len(printed) == 1
