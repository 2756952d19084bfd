"""Spark's own batch inference: ``predict_batch_udf`` over ``binaryFile``.

After the docstring of ``pyspark.ml.functions.predict_batch_udf`` ("calls the make_predict_fn to load the model and
cache its predict function") and Spark's guide of the binary file data source.
The files' bytes are the scalar column that is predicted from, and are decoded in the predict function: decoded pixels,
as a tensor column, would cross the JVM with 600 KB a photo. Spark has a worker a core, so TensorFlow has one thread in
each: with its own choice, as many as cores, 480 photos took longer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.rivals import engines

BATCH_SIZE = 100
THREADS = 1


def main() -> int:
    """Featurize."""
    from pyspark.ml.functions import predict_batch_udf
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import col, element_at, split
    from pyspark.sql.types import ArrayType, FloatType

    args = engines.parse(__doc__)
    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = SparkSession.builder.master("local[*]").appName("predict_batch_udf").getOrCreate()
    images = (
        spark.read.format("binaryFile")
        .option("pathGlobFilter", "*.jpg")
        .option("recursiveFileLookup", "true")
        .load(args.images.as_uri())
    )
    featurize = predict_batch_udf(maker(args), return_type=ArrayType(FloatType()), batch_size=BATCH_SIZE)
    features = images.select(
        "path", element_at(split(col("path"), "/"), -2).alias("label"), featurize("content").alias("features")
    )
    features.write.parquet(args.output.as_uri(), mode="overwrite")
    spark.stop()
    return 0


def maker(args: engines.Arguments) -> Callable[[], Callable[[Any], Any]]:
    """Return what a worker calls once to load the model."""

    def make_predict_fn() -> Callable[[Any], Any]:
        predict = engines.load(args.engine, model=args.model, weights=args.weights, threads=THREADS)
        return lambda contents: predict(np.stack([engines.decode(data) for data in contents]))

    return make_predict_fn


if __name__ == "__main__":
    sys.exit(main())
