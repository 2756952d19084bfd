"""Spark ML's PCA, which the notebook uses, as the reference of ours."""

from __future__ import annotations

import numpy as np
from pyspark.ml import feature as spark_ml_feature
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession


def same_up_to_sign(found: np.ndarray, reference: np.ndarray) -> None:
    signs = np.sign((found * reference).sum(axis=0))
    assert np.abs(found - signs * reference).max() <= 1e-6 * np.abs(reference).max()


def spark_ml(spark: SparkSession, vectors: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Explained variances and scores as the notebook computes them."""
    frame = spark.createDataFrame([(row, Vectors.dense(vector)) for row, vector in enumerate(vectors)], ["row", "x"])
    model = spark_ml_feature.PCA(k=k, inputCol="x", outputCol="y").fit(frame)
    rows = sorted(model.transform(frame).select("row", "y").collect())
    return model.explainedVariance.toArray(), np.array([row.y.toArray() for row in rows])
