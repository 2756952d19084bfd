"""Ray Data: ``read_images``, then ``map_batches`` with a class whose actors hold the model.

After Ray Data's guides "Working with Images" and "End-to-end: Offline Batch Inference" and the docstring of
``Dataset.map_batches``. ``read_images`` decodes with Pillow, and the actors resize with Pillow: its own ``size`` is
bilinear and gives other pixels. As many actors as cores, of half a CPU each: with a whole one each they leave none to
the tasks that read and write, which then wait for ever. One thread of TensorFlow in each: at 1,920 photos a single
actor took a quarter longer, whether it had one thread or one a core.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import ray
from PIL import Image

from benchmarks.rivals import engines

BATCH_SIZE = 64
THREADS = 1
ACTORS = os.cpu_count()
CPUS_OF_AN_ACTOR = 0.5


class Featurizer:
    """An actor's model."""

    def __init__(self, args: engines.Arguments) -> None:
        self._predict = engines.load(args.engine, model=args.model, weights=args.weights, threads=THREADS)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return path, label and features of a batch of path and image."""
        pixels = np.stack([engines.resize(Image.fromarray(image)) for image in batch["image"]])
        labels = np.array([path.split("/")[-2] for path in batch["path"]])
        return {"path": batch["path"], "label": labels, "features": self._predict(pixels)}


def main() -> int:
    """Featurize."""
    args = engines.parse(__doc__)
    ray.init(include_dashboard=False)
    images = ray.data.read_images(str(args.images), include_paths=True)
    features = images.map_batches(
        Featurizer,
        fn_constructor_args=(args,),
        compute=ray.data.ActorPoolStrategy(size=ACTORS),
        batch_size=BATCH_SIZE,
        num_cpus=CPUS_OF_AN_ACTOR,
    )
    features.write_parquet(str(args.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
