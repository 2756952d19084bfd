"""Spark's batch inference: ``predict_batch_udf`` over ``binaryFile``.

Written as in the docstring of ``pyspark.ml.functions.predict_batch_udf`` and Spark's guide "Binary File Data Source".
The input column has the files' bytes, and the predict function decodes them: a tensor column of decoded pixels would
pass 600 KB per photo through the JVM. Spark runs one worker per core, so TensorFlow has one thread per worker; with its
default of one thread per core, 480 photos took longer.
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
    """Featurize the photos with ``predict_batch_udf``."""
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
    featurize = predict_batch_udf(predict_factory(args), return_type=ArrayType(FloatType()), batch_size=BATCH_SIZE)
    features = images.select(
        "path", element_at(split(col("path"), "/"), -2).alias("label"), featurize("content").alias("features")
    )
    features.write.parquet(args.output.as_uri(), mode="overwrite")
    spark.stop()
    return 0


def predict_factory(args: engines.Arguments) -> Callable[[], Callable[[Any], Any]]:
    """Return the function that each worker calls once to load the model."""

    def make_predict_fn() -> Callable[[Any], Any]:
        predict = engines.load(args.engine, model=args.model, weights=args.weights, threads=THREADS)
        return lambda contents: predict(np.stack([engines.decode(data) for data in contents]))

    return make_predict_fn


if __name__ == "__main__":
    sys.exit(main())
