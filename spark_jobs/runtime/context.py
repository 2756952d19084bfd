"""The Spark context of a job."""

from __future__ import annotations

from pyspark import SparkConf, SparkContext


def start(name: str) -> SparkContext:
    """Start the job's Spark context.

    The master, memory and cores come from ``spark-submit``; what is set here is what the jobs' code relies on. There is
    no SparkSession, since no row passes through Spark SQL, and it takes half a second more.

    Parameters
    ----------
    name : str
        The application's name, as the Spark UI and YARN show it.
    """
    settings = SparkConf().setAppName(name)
    # As many Python workers as cores: a BLAS with threads of its own would only take cores from the others.
    settings.set("spark.executorEnv.OMP_NUM_THREADS", "1")
    settings.set("spark.executorEnv.OPENBLAS_NUM_THREADS", "1")
    context = SparkContext.getOrCreate(settings)
    context.setLogLevel("WARN")
    return context
