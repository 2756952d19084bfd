"""Input of both pipelines: the same photos and weights, real ones if available."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from benchmarks import REPOSITORY
from include.artifacts.weights import RANDOM, find_weights
from local.images.loading import find_images
from local.images.sample import make_sample

SHARED = REPOSITORY.parent / "shared"
PATTERN = "*.jpg"
"""The notebook's pattern. Our default pattern matches more files, so our steps get this pattern too."""


def choose_images(requested: Path | None, work: Path) -> tuple[Path, int]:
    """Return the folder of photos and their number: the requested folder, the shared one, or a generated sample."""
    photos = SHARED / "fruits" / "Training"
    if requested is None and not photos.is_dir():
        print("NO PHOTOS ON THIS MACHINE: using generated drawings; times are valid, k is not", flush=True)
        photos = work / "sample"
        make_sample(photos)
    folder = (requested or photos).resolve()
    return folder, len(find_images(folder, PATTERN))


def choose_weights(work: Path) -> tuple[str, Path]:
    """Return the weights' name for the export, and a weights file for Keras."""
    found = find_weights(shared=SHARED)
    if found is not None:
        return found, Path(found)
    print("NO WEIGHTS ON THIS MACHINE: using seeded random weights; times are valid, k is not", flush=True)
    file = work / "random.weights.h5"
    # In a separate process, so that TensorFlow's memory and threads do not stay in the measuring process.
    writer = multiprocessing.get_context("spawn").Process(target=_write_random_weights, args=(str(file),))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise SystemExit(f"writing the random weights failed: exit code {writer.exitcode}")
    return RANDOM, file


def _write_random_weights(file: str) -> None:
    from spark_jobs.model.export import keras_model, weights

    keras_model.build_keras_model(weights.find_weights(RANDOM)).save_weights(file)
