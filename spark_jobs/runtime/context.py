"""The Spark context of a job."""

from __future__ import annotations

from pyspark import SparkConf, SparkContext

from spark_jobs.runtime import hidden_pandas


def start(name: str) -> SparkContext:
    """Start the job's Spark context.

    The master, memory and cores come from ``spark-submit``; this function sets only what the jobs' code relies on. The
    jobs need no SparkSession, since no row passes through Spark SQL; starting one takes another half second.

    Parameters
    ----------
    name : str
        Name of the application in the Spark UI and in YARN.
    """
    settings = SparkConf().setAppName(name)
    # There are as many Python workers as cores: BLAS threads would only compete with the other workers.
    settings.set("spark.executorEnv.OMP_NUM_THREADS", "1")
    settings.set("spark.executorEnv.OPENBLAS_NUM_THREADS", "1")
    settings.set(f"spark.executorEnv.{hidden_pandas.VARIABLE}", "1")
    sc = SparkContext.getOrCreate(settings)
    sc.setLogLevel("WARN")
    return sc
