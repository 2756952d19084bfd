"""Runs with random features, in the layout of featurize: segments, row groups, moments, summary.

The vectors resemble the pooled ReLU6 activations of MobileNetV2: values between 0 and 6, about a third of them zero,
clustered by label. Their spectrum resembles that of 960 photos, where 39 components explain 80 % of the variance.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spark_jobs.args import FEATURES_FILE, FEATURIZE_SUMMARY_FILE, LIVE_SEGMENTS_FILE, SEGMENTS_FOLDER
from spark_jobs.featurize import extraction, segments, staging
from spark_jobs.lake import schemas
from spark_jobs.records import LiveSegments

SEED = 20261122
LABELS = 131
"""Number of labels of Fruits-360, the notebook's data set."""

FACTORS = 200
DECAY = 0.65
"""The standard deviation along factor i is proportional to i ** -DECAY."""

SPREAD = 0.6
"""Approximate standard deviation of a feature before clipping."""

LABEL_CORRELATION = 0.7
"""Correlation between the factors of an image and those of its label."""

NOISE = 0.05


def write_run(folder: Path, images: int, dimensions: int, seed: int = SEED) -> None:
    """Write the features of a number of images, their moments, and featurize's summary.

    The memory does not depend on the number of images.

    Parameters
    ----------
    folder : Path
        The run's folder, which is created.
    images : int
        Number of images; one or more.
    dimensions : int
        Number of features per image.
    seed : int
        The same seed, images and dimensions give the same features.

    Raises
    ------
    FileExistsError
        If the folder exists.
    """
    folder.mkdir(parents=True)
    target = segments.Target((folder / SEGMENTS_FOLDER).as_uri(), folder.name, "0" * 64)
    live: LiveSegments = {"folder": target.folder, "segments": []}
    staged = folder / staging.FOLDER / schemas.FILE_NAME.format(0)
    for number, first in enumerate(range(0, images, segments.ROWS_PER_SEGMENT)):
        rows = range(first, min(first + segments.ROWS_PER_SEGMENT, images))
        with segments.parquet_file(staged.as_uri(), schemas.FEATURES, staging.COMPRESSION) as writer:
            for batch in _batches(rows, images, dimensions, seed):
                writer.write_batch(batch)
        segment = segments.write(target, number, [segments.Source((staged.as_uri(),), ())], None)
        assert segment is not None, "a segment has at least one row"
        live["segments"].append(segment)
    shutil.rmtree(staged.parent)
    (folder / LIVE_SEGMENTS_FILE).write_text(json.dumps(live))
    record = {"listed": images, "features": images, "rejects": 0, "dimensions": dimensions}
    (folder / FEATURIZE_SUMMARY_FILE).write_text(json.dumps(record))


def link_without_moments(run: Path, folder: Path) -> None:
    """Create a second run with hard links to the same features, but without moments.

    Parameters
    ----------
    run : Path
        Folder of a run that :func:`write_run` has written.
    folder : Path
        Folder of the second run, which is created; it must be on the same disk.
    """
    live: LiveSegments = json.loads((run / LIVE_SEGMENTS_FILE).read_text())
    for segment in live["segments"]:
        name = Path(SEGMENTS_FOLDER, segment["id"], FEATURES_FILE)
        (folder / name).parent.mkdir(parents=True)
        os.link(run / name, folder / name)
    live["folder"] = (folder / SEGMENTS_FOLDER).as_uri()
    (folder / LIVE_SEGMENTS_FILE).write_text(json.dumps(live))
    (folder / FEATURIZE_SUMMARY_FILE).write_text((run / FEATURIZE_SUMMARY_FILE).read_text())


def _batches(rows: range, images: int, dimensions: int, seed: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a segment."""
    common = np.random.default_rng(seed)
    axes = common.standard_normal((FACTORS, dimensions), dtype=np.float32)
    base = common.gamma(0.5, 0.6, dimensions).astype(np.float32)
    centres = common.standard_normal((LABELS, FACTORS), dtype=np.float32)
    for first in range(rows.start, rows.stop, extraction.ROWS_PER_BATCH):
        numbers = range(first, min(first + extraction.ROWS_PER_BATCH, rows.stop))
        labels = np.arange(numbers.start, numbers.stop) * LABELS // images
        vectors = _vectors(np.random.default_rng([seed, first]), axes, base, centres[labels])
        offsets = np.arange(0, vectors.size + 1, dimensions, dtype=np.int32)
        names = [f"Fruit {label:03}" for label in labels]
        paths = [f"file:///lake/data/{name}/{row:07}_100.jpg" for row, name in zip(numbers, names, strict=True)]
        yield pa.RecordBatch.from_arrays(
            [
                pa.array(paths),
                pa.array(names),
                pa.ListArray.from_arrays(offsets, vectors.ravel()),
            ],
            schema=schemas.FEATURES,
        )


def _vectors(
    random: np.random.Generator,
    axes: npt.NDArray[np.float32],
    base: npt.NDArray[np.float32],
    centres: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    rows, dimensions = len(centres), len(base)
    deviations = np.arange(1, FACTORS + 1, dtype=np.float32) ** -DECAY
    deviations *= SPREAD / np.linalg.norm(deviations)
    own = random.standard_normal((rows, FACTORS), dtype=np.float32)
    factors = (LABEL_CORRELATION * centres + np.sqrt(1 - LABEL_CORRELATION**2, dtype=np.float32) * own) * deviations
    noise = NOISE * random.standard_normal((rows, dimensions), dtype=np.float32)
    return np.clip(factors @ axes + noise + base, 0, 6)
