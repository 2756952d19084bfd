"""Seeded pictures that resemble photos: they calibrate random weights and compare LiteRT with Keras."""

from __future__ import annotations

import numpy as np

from spark_jobs.images.decoding import SIDE, Pixels


def make_pictures(random: np.random.Generator, count: int) -> Pixels:
    """Return seeded pictures that resemble photos: smooth colours, an object on a plain background.

    Returns
    -------
    numpy.ndarray of shape (count, 224, 224, 3), uint8
    """
    from PIL import Image

    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    pictures = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for picture in pictures:
        cells = int(random.integers(2, 12))
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        texture = random.normal(0.0, random.uniform(0.0, 20.0), (SIDE, SIDE, 1))
        pixels = np.asarray(coarse.resize((SIDE, SIDE)), np.float64) + texture
        centre, radius = random.uniform(70, 154, 2), random.uniform(50, 120)
        outside = np.hypot(rows - centre[0], columns - centre[1]) > radius
        pixels[outside] = random.integers(0, 256, 3) if random.random() < 0.5 else 255
        picture[:] = np.clip(pixels, 0, 255)
    return pictures
