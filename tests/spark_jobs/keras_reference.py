"""Features by plain Keras, as the notebook computes them: ``python keras_reference.py WEIGHTS OUTPUT FILE…``.

A program of its own, so that TensorFlow never enters the tests' process.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

from spark_jobs.model.export.keras_model import build_keras_model
from spark_jobs.model.export.weights import find_weights


def main() -> None:
    """Write an array of shape (files, 1280) to the output."""
    weights, output, *files = sys.argv[1:]
    from tensorflow.keras.applications.mobilenet_v2 import MobileNetV2, preprocess_input
    from tensorflow.keras.preprocessing.image import img_to_array

    if weights.startswith("random:"):
        model = build_keras_model(find_weights(weights))
    else:
        model = MobileNetV2(include_top=False, pooling="avg", weights=weights, input_shape=(224, 224, 3))
    images = [preprocess_input(img_to_array(Image.open(file).resize([224, 224]))) for file in files]
    np.save(output, model.predict(np.stack(images), batch_size=32, verbose=0))


if __name__ == "__main__":
    main()
