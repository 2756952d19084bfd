"""Both jobs, one after the other, on all the photos: against plain Keras, and against NumPy's eigenvalues."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest
from pyspark.sql import SparkSession

from spark_jobs.args import FEATURE_DIMENSIONS, FeaturizeArgs, PcaArgs
from spark_jobs.featurize import job as featurize_job
from spark_jobs.pca import job as pca_job
from tests.spark_jobs.conftest import KERAS_STEP, SHARED
from tests.spark_jobs.spark_ml_reference import same_up_to_sign

NOTEBOOK_K = 39
"""Components that explain 80 % of the shared photos' variance in the notebook."""

TOLERANCE = 1e-4

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]


@pytest.fixture(scope="module")
def run(spark: SparkSession, photos: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of both jobs."""
    folder = tmp_path_factory.mktemp("run")
    model = f"file://{model_folder}"
    featurize_job.run(spark.sparkContext, FeaturizeArgs(images=f"file://{photos}", run=f"file://{folder}", model=model))
    pca_job.run(PcaArgs(run=f"file://{folder}"))
    return folder


def column(files: Path | list[str], name: str) -> list:
    return ds.dataset(files).to_table().column(name).to_pylist()


@pytest.fixture(scope="module")
def segments(run: Path) -> list[str]:
    """The files of features of the run's state, in order."""
    live = json.loads((run / "segments.json").read_text())
    return [f"{live['folder'].removeprefix('file://')}/{each['id']}/features.parquet" for each in live["segments"]]


@pytest.fixture(scope="module")
def features(segments: list[str]) -> np.ndarray:
    return np.array(column(segments, "features"), np.float32)


def test_every_photo_has_a_row_of_features(segments: list[str], files: list[Path], features: np.ndarray) -> None:
    assert column(segments, "path") == [f"file://{path}" for path in files]
    assert column(segments, "label") == [path.parent.name for path in files]
    assert features.shape == (len(files), FEATURE_DIMENSIONS)
    if (SHARED / "fruits" / "Training").is_dir():
        assert len(files) == 960


def test_features_equal_keras(features: np.ndarray, keras_features: np.ndarray) -> None:
    assert np.abs(features[::KERAS_STEP] - keras_features).max() <= TOLERANCE * np.abs(keras_features).max()


def test_components_are_as_many_as_in_the_notebook_and_scores_equal_numpy(run: Path, features: np.ndarray) -> None:
    eigenvalues, axes = np.linalg.eigh(np.cov(features.astype(np.float64).T))
    expected = int((np.cumsum(eigenvalues[::-1]) / eigenvalues.sum() >= 0.8).argmax()) + 1
    scores = np.array(column(run / "pca" / "scores", "components"))
    found = scores.shape[1]
    assert found == expected
    same_up_to_sign(scores, features.astype(np.float64) @ axes[:, ::-1][:, :found])
    if (SHARED / "fruits" / "Training").is_dir() and (SHARED / "weights").is_dir():
        assert abs(found - NOTEBOOK_K) <= 1
