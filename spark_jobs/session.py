"""The Spark session of a job."""

from __future__ import annotations

from pyspark.sql import SparkSession


def start(name: str) -> SparkSession:
    """Start the job's Spark session.

    The master, memory and cores come from ``spark-submit``; what is set here is what the jobs' code relies on.

    Parameters
    ----------
    name : str
        The application's name, as the Spark UI and YARN show it.
    """
    spark = (
        SparkSession.builder.appName(name)
        # A feature row is 5 KB: the default of 10,000 rows would make batches of 50 MB.
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "512")
        .config("spark.sql.session.timeZone", "UTC")
        # The default, INT96, has no time zone: readers other than Spark would not see that times are in UTC.
        .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        # As many Python workers as cores: a BLAS with threads of its own would only take cores from the others.
        .config("spark.executorEnv.OMP_NUM_THREADS", "1")
        .config("spark.executorEnv.OPENBLAS_NUM_THREADS", "1")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("WARN")
    return spark
