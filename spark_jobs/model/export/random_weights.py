"""Seeded random weights whose features differ between pictures, as trained weights' features do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from spark_jobs.model import mobilenet
from spark_jobs.model.export.pictures import make_pictures

RANDOM_RECIPE = 1
"""Version of the algorithm for random weights: with another version, the same seed gives another model."""

CALIBRATION_IMAGES = 32
RANDOM_DEVIATION = 0.4
"""Mean standard deviation of a feature between pictures, with random weights. With photos it is from 0.1 to 1."""


def set_random_weights(model: Any, seed: int) -> None:
    """Set random weights whose features differ between pictures.

    Kernels are drawn as in He et al. 2015 (normal, variance 2 / fan-in). Every BatchNorm gets the mean and variance of
    its inputs on seeded pictures, so the signal neither vanishes nor explodes in 52 layers. The last BatchNorm is then
    scaled until the features' standard deviation between pictures is like that of trained weights.
    """
    random = np.random.default_rng(seed)
    norms = [layer for layer in model.layers if type(layer).__name__ == "BatchNormalization"]
    for layer in model.layers:
        if layer not in norms and layer.weights:
            layer.set_weights([_he_kernel(random, layer, kernel.shape) for kernel in layer.get_weights()])
    pictures = mobilenet.preprocess(make_pictures(random, CALIBRATION_IMAGES))
    for norm in norms:
        norm.momentum = 0.0  # the next batch alone determines the moving statistics
    model(pictures, training=True)
    last = norms[-1]
    body, head = type(model)(model.input, last.input), type(model)(last.input, model.output)
    maps = body(pictures, training=False)  # once: only the last BatchNorm changes below
    for _ in range(3):  # because of ReLU6 the deviation is not exactly proportional to the scale
        deviation = float(np.std(head(maps, training=False), axis=0).mean())
        gamma, beta, mean, variance = last.get_weights()
        last.set_weights([gamma * (RANDOM_DEVIATION / deviation), beta, mean, variance])


def _he_kernel(random: np.random.Generator, layer: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return a kernel. The fan-in of a depthwise kernel is one channel, of another kernel its whole third axis."""
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    fan_in = shape[0] * shape[1] * (1 if depthwise else shape[2])
    return random.normal(0.0, np.sqrt(2.0 / fan_in), shape).astype(np.float32)
