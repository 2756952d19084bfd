"""Reading small photos from S3 in Spark's workers: sequential reads with pyarrow against S3A and binaryFile.

``python -m benchmarks.s3_reads`` runs both sides alternately in one Spark session, on the same objects of the local
store. The time is that of the Spark job. Both sides read and count every byte.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.inputs import PATTERN, choose_images
from benchmarks.rates import median
from local.emr.spark.s3_connector import connector_folder, connector_jars, connector_settings
from local.environment import local_environment
from local.images.bucket import ImageBucket
from local.images.loading import load_images
from local.s3.process import StoreProcess

LAKE = "s3://fruits"
CORES = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: print the medians of both sides and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.s3_reads", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of photos; the shared ones or a sample by default")
    parser.add_argument("--laps", type=int, default=5, help="laps of each side (default: %(default)s)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="fruits-bench-") as folder:
        work = Path(folder)
        images, count = choose_images(args.images, work)
        clean = local_environment(airflow_home=work, endpoint_url="http://127.0.0.1:1", lake=LAKE)
        with StoreProcess(work / "store", environment=clean) as store:
            os.environ.update(clean | {"AWS_ENDPOINT_URL_S3": store.url, "PYSPARK_PYTHON": sys.executable})
            load_images(images, ImageBucket(LAKE), PATTERN)
            measure(count, args.laps)
    return 0


def measure(count: int, laps: int) -> None:
    """Run the laps, and print the medians of both sides and their ratio.

    Raises
    ------
    SystemExit
        If the sides read different numbers of bytes.
    """
    from pyspark.sql import SparkSession

    jars = connector_jars(connector_folder())
    builder = SparkSession.builder.master(f"local[{CORES}]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    for name, value in connector_settings(jars, os.environ).items():
        builder = builder.config(name, value)
    spark = builder.config("spark.jars", ",".join(map(str, jars))).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    keys = sorted(f"{LAKE.removeprefix('s3://')}/data/{name}" for name in ImageBucket(LAKE).names())
    sides: dict[str, Callable[[], int]] = {
        "pyarrow": lambda: read_by_pyarrow(spark, keys),
        "S3A binaryFile": lambda: read_by_connector(spark),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    sizes = set()
    for lap in range(laps + 1):
        for name, read in sides.items():
            begin = time.perf_counter()
            sizes.add(read())
            if lap:  # the first lap is a warm-up
                times[name].append(time.perf_counter() - begin)
    spark.stop()
    if len(sizes) != 1:
        raise SystemExit(f"the two sides read different numbers of bytes: {sorted(sizes)}")
    medians = {name: median(laps_seconds) for name, laps_seconds in times.items()}
    for name, seconds in medians.items():
        sys.stdout.write(f"{name:15} {seconds:6.2f} s  {count / seconds:7.0f} objects/s  (median of {laps})\n")
    ratio = medians["S3A binaryFile"] / medians["pyarrow"]
    sys.stdout.write(f"{count} objects, {sizes.pop()} bytes, {CORES} cores: {ratio:.2f}\n")


def read_by_pyarrow(spark: object, keys: Sequence[str]) -> int:
    """Read the objects with pyarrow, sequentially in each task, with two tasks per core."""

    def read(names: Iterable[str]) -> Iterator[int]:
        from pyarrow import fs

        files = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL_S3"])
        for name in names:
            with files.open_input_stream(name) as stream:
                yield len(stream.read())

    return int(spark.sparkContext.parallelize(keys, 2 * CORES).mapPartitions(read).sum())  # type: ignore[attr-defined]


def read_by_connector(spark: object) -> int:
    """Read the objects with Spark's binaryFile, and pass their bytes to Python workers, as featurize would."""
    import pyarrow as pa

    def count(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield pa.RecordBatch.from_pydict({"bytes": [sum(len(data) for data in batch["content"].to_pylist())]})

    read = spark.read.format("binaryFile").option("recursiveFileLookup", "true")  # type: ignore[attr-defined]
    rows = read.load(f"{LAKE}/data").select("content").mapInArrow(count, "bytes long")
    return int(rows.groupBy().sum("bytes").first()[0])


if __name__ == "__main__":
    raise SystemExit(main())
