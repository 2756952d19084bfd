"""Comparison of the exported model with Keras, on the same pictures."""

from __future__ import annotations

from typing import Any

import numpy as np

from spark_jobs.errors import JobError
from spark_jobs.model import mobilenet
from spark_jobs.model.export.pictures import make_pictures

TOLERANCE = 1e-4
"""Largest accepted difference between LiteRT and Keras, as a share of the largest feature of Keras."""

CHECK_IMAGES = 4


def check_against_keras(model: Any, flatbuffer: bytes) -> float:
    """Compare LiteRT with Keras on seeded pictures.

    Returns
    -------
    float
        The largest absolute difference, as a share of the largest absolute feature of Keras.

    Raises
    ------
    JobError
        If it is above the tolerance, or if Keras gives the same features for all pictures, which would make the
        comparison meaningless.
    """
    pictures = make_pictures(np.random.default_rng(0), CHECK_IMAGES)
    expected = np.asarray(model(mobilenet.preprocess(pictures), training=False))
    extract = mobilenet.Extractor(flatbuffer)
    found = np.stack([extract(picture) for picture in pictures])
    largest = float(np.abs(expected).max())
    if not np.std(expected, axis=0).mean() > 1e-3:
        raise JobError("the weights give every picture the same features: they are not a trained model's")
    difference = float(np.abs(found - expected).max()) / largest
    if not difference <= TOLERANCE:
        raise JobError(
            f"the exported model differs from Keras by {difference:.1e} of its largest feature, more than "
            f"{TOLERANCE:.0e}: it was not stored; check the versions of tensorflow and ai-edge-litert"
        )
    return difference
