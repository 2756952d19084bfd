"""Ray Data: ``read_images``, then ``map_batches`` with a class whose actors hold the model.

Written as in Ray Data's guides "Working with Images" and "End-to-end: Offline Batch Inference", and the docstring of
``Dataset.map_batches``. ``read_images`` decodes with Pillow, and the actors resize with Pillow, since the option
``size`` of ``read_images`` is bilinear and computes other pixels. There is one actor per core, with half a CPU each: if
each had one CPU, the tasks that read and write would wait for a CPU forever. TensorFlow has one thread per actor; at
1,920 photos, a single actor took 25 % longer, with one thread and with one thread per core.
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
CPUS_PER_ACTOR = 0.5


class Featurizer:
    """The model of an actor."""

    def __init__(self, args: engines.Arguments) -> None:
        self._predict = engines.load(args.engine, model=args.model, weights=args.weights, threads=THREADS)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return path, label and features of a batch of paths and images."""
        pixels = np.stack([engines.resize(Image.fromarray(image)) for image in batch["image"]])
        labels = np.array([path.split("/")[-2] for path in batch["path"]])
        return {"path": batch["path"], "label": labels, "features": self._predict(pixels)}


def main() -> int:
    """Featurize the photos with Ray Data."""
    args = engines.parse(__doc__)
    ray.init(include_dashboard=False)
    images = ray.data.read_images(str(args.images), include_paths=True)
    features = images.map_batches(
        Featurizer,
        fn_constructor_args=(args,),
        compute=ray.data.ActorPoolStrategy(size=ACTORS),
        batch_size=BATCH_SIZE,
        num_cpus=CPUS_PER_ACTOR,
    )
    features.write_parquet(str(args.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
