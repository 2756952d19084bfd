"""Fixtures of the jobs' tests: one local Spark session, one exported model, one folder of photos."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from spark_jobs.runtime import context, workers
from tests.once import build_once
from tests.spark_jobs.in_process import Here

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY.parent / "shared"
REFERENCE = Path(__file__).with_name("keras_reference.py")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Start a session as the jobs do: two local cores, no web server, bound to loopback."""
    warehouse = tmp_path_factory.mktemp("warehouse")
    submit = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.warehouse.dir": warehouse.as_uri(),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    flags = " ".join(f"--conf {name}={value}" for name, value in submit.items())
    with pytest.MonkeyPatch.context() as patch:
        # Spark's Python workers are children of the JVM: its environment must name the folder of the package.
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        patch.setenv("PYSPARK_SUBMIT_ARGS", f"--master local[2] {flags} pyspark-shell")
        context.start("tests").setLogLevel("ERROR")
        started = SparkSession.builder.getOrCreate()
        yield started
        started.stop()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let jobs run their tasks in this process, for tests of what they compute, not of how Spark runs it."""
    monkeypatch.setattr(context, "start", lambda _: Here())
    monkeypatch.setattr(workers, "start", lambda *_: None)  # there are none


@pytest.fixture(scope="session")
def model_folder(models: Path) -> Path:
    """Return the folder of the exported model, named after its digest."""
    (folder,) = (path.parent for path in models.glob("*/*.json"))
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder ``<label>/*.jpg`` with the shared photos, or generated ones. Tests only read it."""
    training = SHARED / "fruits" / "Training"
    if training.is_dir():
        return training
    return build_once(tmp_path_factory, "photos", lambda folder: write_photos(folder, labels=4, images_per_label=12))


@pytest.fixture(scope="session")
def files(photos: Path) -> list[Path]:
    """Return all photos, sorted by path."""
    return sorted(photos.glob("*/*.jpg"))


KERAS_STEP = 4
"""Keras computes the features of every fourth photo."""


@pytest.fixture(scope="session")
def keras_features(files: list[Path], weights: str, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Return the features of ``files[::KERAS_STEP]``, shape (photos, 1280), from plain Keras with the same weights.

    They are computed once per test run.
    """

    def build(folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, str(REFERENCE), weights, str(folder / "features.npy"), *map(str, files[::KERAS_STEP])],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    features: np.ndarray = np.load(build_once(tmp_path_factory, "keras_features", build) / "features.npy")
    return features


@pytest.fixture
def few_photos(photos: Path, tmp_path: Path) -> Path:
    """Copy three images of each of three labels into a folder that only this test uses."""
    folder = tmp_path / "few photos"
    for label in sorted(path for path in photos.iterdir() if path.is_dir())[:3]:
        (folder / label.name).mkdir(parents=True)
        for image in sorted(label.glob("*.jpg"))[:3]:
            shutil.copyfile(image, folder / label.name / image.name)
    return folder


def write_photos(folder: Path, *, labels: int, images_per_label: int, seed: int = 7) -> None:
    """Write smooth coloured pictures with texture and hard edges, 100x100 like the shared photos."""
    random = np.random.default_rng(seed)
    for label in range(labels):
        (folder / f"Label {label}").mkdir(parents=True)
        for number in range(images_per_label):
            small = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
            pixels = np.asarray(small.resize((100, 100)), dtype=np.float64)
            pixels += random.normal(0, 12, pixels.shape)
            rows, columns = np.mgrid[0:100, 0:100]
            outside = np.hypot(rows - 50, columns - 50) > random.uniform(30, 48)
            pixels[outside] = 255
            image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            image.save(folder / f"Label {label}" / f"{number}_100.jpg", quality=90)
