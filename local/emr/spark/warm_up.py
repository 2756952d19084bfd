"""A Spark job that does in small what steps do, so that the JVM loads the classes that they need.

Usage: ``spark-submit warm_up.py FOLDER``: writes Parquet below the folder.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def main(folder: str) -> None:
    """Run the job."""
    import pyarrow as pa
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.appName("warm up").getOrCreate()
    model = spark.sparkContext.broadcast(b"model")

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            numbers = batch.column(0)
            names = pa.array([model.value.decode()] * len(numbers))
            vectors = pa.array([[1.0]] * len(numbers), pa.list_(pa.float32()))
            yield pa.RecordBatch.from_arrays([numbers, names, vectors, names], ["id", "name", "vector", "kind"])

    schema = "id long, name string, vector array<float>, kind string"
    made = spark.range(0, 4, 1, 2).mapInArrow(rows, schema)
    made.write.partitionBy("kind").mode("overwrite").parquet(f"{folder}/partitioned")
    spark.read.parquet(f"{folder}/partitioned").write.mode("overwrite").parquet(f"{folder}/plain")
    spark.sparkContext.parallelize(range(4), 2).map(lambda number: number + 1).collect()
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])
