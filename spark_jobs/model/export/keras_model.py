"""The Keras model that is exported: MobileNetV2 1.0/224 without its top."""

from __future__ import annotations

from typing import Any

from spark_jobs.errors import JobError
from spark_jobs.images.decoding import SIDE
from spark_jobs.model.export.random_weights import set_random_weights
from spark_jobs.model.export.tensorflow_setup import import_tensorflow
from spark_jobs.model.export.weights import WeightsOrigin


def build_keras_model(weights: WeightsOrigin) -> Any:
    """Return the Keras model: MobileNetV2 1.0/224 without its top, averaged over the last layer's 7x7 positions.

    Raises
    ------
    JobError
        If the weights file does not fit the model.
    """
    keras = import_tensorflow().keras
    model = keras.applications.MobileNetV2(include_top=False, pooling="avg", weights=None, input_shape=(SIDE, SIDE, 3))
    if weights.path is None:
        assert weights.seed is not None
        set_random_weights(model, weights.seed)
        return model
    try:
        model.load_weights(weights.path)
    except Exception as error:  # h5py and Keras raise many kinds of errors for other files
        raise JobError(
            f"the weights in {weights.path} do not fit MobileNetV2 1.0/224 without its top: {error}"
        ) from error
    return model
