"""Spark ML's PCA, which the notebook uses, as the reference of ours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pyspark.ml import feature as spark_ml_feature
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession


@dataclass(frozen=True)
class SparkMl:
    """What Spark ML finds: axes as rows, shape (k, d), their ratios, and the scores in the order of the vectors."""

    components: np.ndarray
    explained_variance_ratio: np.ndarray
    scores: np.ndarray


def fit_spark_ml(spark: SparkSession, vectors: np.ndarray, k: int) -> SparkMl:
    """Fit and transform as the notebook does."""
    frame = spark.createDataFrame([(row, Vectors.dense(vector)) for row, vector in enumerate(vectors)], ["row", "x"])
    model = spark_ml_feature.PCA(k=k, inputCol="x", outputCol="y").fit(frame)
    rows = sorted(model.transform(frame).select("row", "y").collect())
    scores = np.array([row.y.toArray() for row in rows])
    return SparkMl(model.pc.toArray().T, model.explainedVariance.toArray(), scores)


def same_up_to_sign(found: np.ndarray, reference: np.ndarray) -> None:
    signs = np.sign((found * reference).sum(axis=0))
    assert np.abs(found - signs * reference).max() <= 1e-6 * np.abs(reference).max()
