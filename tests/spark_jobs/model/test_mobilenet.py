"""The model's runner: equal to Keras, checked against its record, and without TensorFlow."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from spark_jobs.args import FEATURE_DIMENSIONS, MODEL_FILE, MODEL_RECORD_FILE
from spark_jobs.errors import JobError
from spark_jobs.images import decoding
from spark_jobs.model import mobilenet
from tests.spark_jobs.conftest import KERAS_STEP

REPOSITORY = Path(__file__).resolve().parents[3]
TOLERANCE = 1e-4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def extract(model_folder: Path) -> mobilenet.Extract:
    model = mobilenet.read(model_folder.as_uri())
    return mobilenet.load_extractor(model.digest, model.flatbuffer)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a share of Keras' largest feature."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def decode(path: Path) -> decoding.Pixels:
    pixels = decoding.decode(path.read_bytes(), max_pixels=10**8)
    assert not isinstance(pixels, decoding.Reject)
    return pixels


def test_features_tell_photos_apart(keras_features: np.ndarray) -> None:
    deviation = keras_features.std(axis=0)
    assert keras_features.shape[1] == FEATURE_DIMENSIONS
    assert 0.1 <= deviation.mean() <= 1
    assert 0.1 <= np.median(deviation) <= 1


def test_features_equal_keras(files: list[Path], keras_features: np.ndarray, extract: mobilenet.Extract) -> None:
    found = np.stack([extract(decode(path)) for path in files[::KERAS_STEP]])
    assert found.dtype == np.float32
    assert difference(found, keras_features) <= TOLERANCE


def bgr(path: Path) -> decoding.Pixels:
    return np.ascontiguousarray(decode(path)[..., ::-1])


def bilinear(path: Path) -> decoding.Pixels:
    return np.asarray(Image.open(path).resize((224, 224), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("wrong", [bgr, bilinear])
def test_wrong_pixels_fail_the_comparison_with_keras(
    files: list[Path], keras_features: np.ndarray, extract: mobilenet.Extract, wrong: Callable[[Path], decoding.Pixels]
) -> None:
    found = np.stack([extract(wrong(path)) for path in files[:: 5 * KERAS_STEP]])
    assert difference(found, keras_features[::5]) > 100 * TOLERANCE


def test_wrong_scaling_fails_the_comparison_with_keras(
    files: list[Path], keras_features: np.ndarray, extract: mobilenet.Extract, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(pixels: decoding.Pixels, out: np.ndarray) -> None:
        out[...] = pixels.astype(np.float32) / 255

    monkeypatch.setattr(mobilenet, "preprocess", wrong)
    found = np.stack([extract(decode(path)) for path in files[:: 5 * KERAS_STEP]])
    assert difference(found, keras_features[::5]) > 100 * TOLERANCE


def test_an_image_has_the_same_features_whatever_came_before_it(files: list[Path], extract: mobilenet.Extract) -> None:
    first = extract(decode(files[0]))
    extract(decode(files[-1]))
    np.testing.assert_array_equal(extract(decode(files[0])), first)


def test_a_process_keeps_one_extractor(model_folder: Path) -> None:
    model = mobilenet.read(model_folder.as_uri())
    assert mobilenet.load_extractor(model.digest, model.flatbuffer) is mobilenet.load_extractor(
        model.digest, model.flatbuffer
    )


def test_preprocessing_ends_at_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.array([0, 127, 128, 255], np.uint8)
    np.testing.assert_allclose(mobilenet.preprocess(pixels), [-1, -1 / 255, 1 / 255, 1], atol=1e-7)
    assert mobilenet.preprocess(pixels).dtype == np.float32


def test_a_missing_model_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"no model at file://.*/none .*make publish"):
        mobilenet.read(f"file://{tmp_path}/none")


def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def test_another_flatbuffer_than_the_records_is_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = copy(model_folder, tmp_path)
    content = bytearray((folder / MODEL_FILE).read_bytes())
    content[-1] ^= 1
    (folder / MODEL_FILE).write_bytes(content)
    with pytest.raises(JobError, match=r"is not the model that model\.json names"):
        mobilenet.read(folder.as_uri())


@pytest.mark.parametrize("text", ["", "[]", "{}", "not JSON"])
def test_a_broken_record_is_refused(model_folder: Path, tmp_path: Path, text: str) -> None:
    folder = copy(model_folder, tmp_path)
    (folder / MODEL_RECORD_FILE).write_text(text)
    with pytest.raises(JobError, match="is not a model's record"):
        mobilenet.read(folder.as_uri())


def test_the_record_tells_where_the_weights_come_from(model_folder: Path, weights: str) -> None:
    record = json.loads((model_folder / MODEL_RECORD_FILE).read_text())
    assert record["weights"]["source"] == ("random" if weights.startswith("random") else "file")
    assert len(record["digest"]) == len(record["weights"]["sha256"]) == 64
    assert record["digest"][:16] == model_folder.name
    assert record["dimensions"] == FEATURE_DIMENSIONS
    assert 0 < record["difference"] <= TOLERANCE


def test_neither_listing_nor_decoding_nor_the_model_needs_tensorflow(model_folder: Path) -> None:
    program = (
        "import sys, numpy as np\n"
        "from spark_jobs.featurize import job\n"
        "from spark_jobs.model import mobilenet\n"
        "model = mobilenet.read(sys.argv[1])\n"
        "mobilenet.load_extractor(model.digest, model.flatbuffer)(np.zeros((224, 224, 3), np.uint8))\n"
        "print([name for name in ('tensorflow', 'keras', 'pandas', 'pyspark') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, model_folder.as_uri()],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_a_flatbuffer_of_another_shape_is_refused(monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> None:
    monkeypatch.setattr(mobilenet, "FEATURE_DIMENSIONS", 1000)
    content = (model_folder / MODEL_FILE).read_bytes()
    with pytest.raises(JobError, match=r"the model's output is \(1, 1280\) of float32, expected \(1, 1000\)"):
        mobilenet.Extractor(io.BytesIO(content).getvalue())
