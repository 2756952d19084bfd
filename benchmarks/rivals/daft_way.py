"""Daft: ``from_glob_path``, ``download``, and a class UDF that holds the model.

Written as in Daft's guides "Working with Images" and "Stateful Class UDFs with @daft.cls", and the docstrings of
``daft.cls`` and ``daft.method.batch``. The UDF gets the files' bytes and decodes them with Pillow, since Daft's
``decode_image`` and ``resize`` compute other pixels. Keras has one worker, since TensorFlow uses all cores: at 1,920
photos, this took half the time of one single-threaded worker per core. LiteRT is single-threaded and has one worker per
core.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import daft
import numpy as np
from daft import DataType, col
from daft.functions import download, get, split

from benchmarks.rivals import engines

BATCH_SIZE = 64


class Featurizer:
    """The model of a worker."""

    def __init__(self, args: engines.Arguments) -> None:
        self._predict = engines.load(args.engine, model=args.model, weights=args.weights)

    @daft.method.batch(return_dtype=DataType.list(DataType.float32()), batch_size=BATCH_SIZE)
    def featurize(self, contents: daft.Series) -> Any:
        """Return the features of a batch of encoded photos."""
        return list(self._predict(np.stack([engines.decode(data) for data in contents.to_pylist()])))


def main() -> int:
    """Featurize the photos with Daft."""
    args = engines.parse(__doc__)
    workers = 1 if args.engine == "keras" else os.cpu_count()
    featurizer = daft.cls(Featurizer, max_concurrency=workers, use_process=True)(args)
    images = daft.from_glob_path(f"{args.images}/**/*.jpg")
    features = images.select(
        col("path"),
        get(split(col("path"), "/"), -2).alias("label"),
        featurizer.featurize(download(col("path"))).alias("features"),
    )
    features.write_parquet(str(args.output))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Not sys.exit: Daft's threads sometimes abort the interpreter at its exit, after all files were written.
    os._exit(code)
