"""What both pipelines work on: the same photos and the same weights, real ones where there are any."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from include.artifacts.weights import RANDOM, find_weights
from local.images.loading import find_images
from local.images.sample import make_sample

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"
PATTERN = "*.jpg"
"""What the notebook takes; ours takes more by default, and is given no chance to."""


def choose_images(asked: Path | None, work: Path) -> tuple[Path, int]:
    """Return the folder of photos and how many it holds: the asked one, the shared one, or a generated sample."""
    photos = SHARED / "fruits" / "Training"
    if asked is None and not photos.is_dir():
        print("NO PHOTOS ON THIS MACHINE: generated drawings stand for them; times hold, k does not", flush=True)
        photos = work / "sample"
        make_sample(photos)
    folder = (asked or photos).resolve()
    return folder, len(find_images(folder, PATTERN))


def choose_weights(work: Path) -> tuple[str, Path]:
    """Return the weights as the export names them, and as a file that Keras reads."""
    found = find_weights(shared=SHARED)
    if found is not None:
        return found, Path(found)
    print("NO WEIGHTS ON THIS MACHINE: seeded random ones stand for them; times hold, k does not", flush=True)
    file = work / "random.weights.h5"
    # A process of its own, so that TensorFlow's memory and threads do not stay in the one that measures.
    writer = multiprocessing.get_context("spawn").Process(target=_write_random_weights, args=(str(file),))
    writer.start()
    writer.join()
    if writer.exitcode:
        raise SystemExit(f"the random weights could not be written: exit code {writer.exitcode}")
    return RANDOM, file


def _write_random_weights(file: str) -> None:
    from spark_jobs.model import export

    export.build_keras_model(export.find_weights(RANDOM)).save_weights(file)
