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
    return (
        SparkSession.builder.appName(name)
        # A feature row is 5 KB: the default of 10,000 rows would make batches of 50 MB.
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "512")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
