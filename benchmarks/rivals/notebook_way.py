"""The notebook's featurization: ``binaryFile``, 24 partitions, a ``pandas_udf`` of type SCALAR_ITER, Parquet.

It uses the functions of :mod:`benchmarks.notebook`, without the steps after the features. The engine ``litert`` only
replaces the model in the ``pandas_udf``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import PandasUDFType, col, pandas_udf

from benchmarks import notebook
from benchmarks.rivals import engines


def main() -> int:
    """Featurize the photos as the notebook does."""
    args = engines.parse(__doc__)
    os.environ["PYSPARK_PYTHON"] = sys.executable
    if args.engine == "keras":
        spark = notebook.start_session("local[*]")
        weights = spark.sparkContext.broadcast(notebook.build_model(args.weights).get_weights())
        features = notebook.featurized(load_images(spark, args), weights, args.weights)
    else:
        spark = SparkSession.builder.master("local[*]").appName("notebook").getOrCreate()
        features = featurized_by_litert(load_images(spark, args), args)
    features.write.mode("overwrite").parquet(args.output.as_uri())
    spark.stop()
    return 0


def load_images(spark: SparkSession, args: engines.Arguments) -> Any:
    """Return the notebook's DataFrame of path, content and label."""
    return notebook.load_images(spark, args.images.as_uri())


def featurized_by_litert(images: Any, args: engines.Arguments) -> Any:
    """Return the notebook's lazy DataFrame of path, label and features, computed with the LiteRT model."""

    def extract(content_series_iter: Iterator[pd.Series]) -> Iterator[pd.Series]:
        predict = engines.load("litert", model=args.model, weights=args.weights)
        for content_series in content_series_iter:
            yield pd.Series(list(predict(np.stack(content_series.map(engines.decode)))))

    extract.__annotations__.clear()  # as in the notebook: pandas_udf gets the type as an argument
    extract_udf = pandas_udf(extract, "array<float>", PandasUDFType.SCALAR_ITER)
    return images.repartition(24).select(col("path"), col("label"), extract_udf(col("content")).alias("features"))


if __name__ == "__main__":
    sys.exit(main())
