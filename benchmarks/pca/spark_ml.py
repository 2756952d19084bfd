"""Spark ML's PCA over a DataFrame of vectors, as its guide has it.

``fit`` passes over the features three times (the width of the first, the means, the covariance), and ``transform`` once
more. Variants: ``plain`` reads the files each time, ``cached`` keeps the vectors in memory from the first pass to the
end of a lap. Both are Spark as it comes, with enough memory: its linear algebra is in Java. ``openblas`` is ``cached``
with a native library, which Spark does not come with, set up as its "MLlib Linear Algebra Acceleration Guide" has it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.pca.session import Arguments, Lap, Outcome, Stages, run

DRIVER_MEMORY = "8g"
"""The cached vectors are 10 KB an image."""


def openblas() -> Path:
    """Return the OpenBLAS of this environment: the one in SciPy's wheel.

    Raises
    ------
    SystemExit
        When there is none, or several.
    """
    folder = Path(sysconfig.get_path("platlib")) / "scipy.libs"
    found = sorted(folder.glob("libopenblas*.so"))
    if len(found) != 1:
        raise SystemExit(f"{folder} has {len(found)} libraries libopenblas*.so: expected one")
    return found[0]


def use_openblas() -> dict[str, str]:
    """Prepare this process for it, and return the settings of Spark for it.

    A thread a task, as the guide says: Spark has a task a core. The library's own libraries are beside it.
    """
    library = openblas()
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "LD_LIBRARY_PATH": str(library.parent)}
    options = (f"-Ddev.ludovic.netlib.{part}.nativeLibPath={library}" for part in ("blas", "lapack"))
    return {"spark.driver.extraJavaOptions": " ".join(options)}


@contextmanager
def session(args: Arguments) -> Iterator[Lap]:
    """Start a Spark session; the master comes from the environment."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.ml.feature import PCA
    from pyspark.ml.functions import array_to_vector, vector_to_array
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import col

    native = args.variant == "openblas"
    settings = {"spark.driver.memory": DRIVER_MEMORY, **(use_openblas() if native else {})}
    spark = SparkSession.builder.appName("pca").config(map=settings).getOrCreate()
    if native:
        # They raise an error where Spark would use Java instead, and say so in its log only.
        spark._jvm.dev.ludovic.netlib.blas.NativeBLAS.getInstance()
        spark._jvm.dev.ludovic.netlib.lapack.NativeLAPACK.getInstance()
    scores = args.output / "scores"

    def lap() -> Outcome:
        watch = Stages()
        vectors = spark.read.parquet(args.features.as_uri()).select(
            "path", "label", array_to_vector(col("features")).alias("vector")
        )
        if args.variant != "plain":
            vectors = vectors.cache()
        with watch.stage("fit"):
            model = PCA(k=args.k, inputCol="vector", outputCol="projected").fit(vectors)
        with watch.stage("scores"):
            projected = model.transform(vectors)
            columns = projected.select("path", "label", vector_to_array("projected").alias("components"))
            columns.write.parquet(scores.as_uri())
        if args.variant != "plain":
            vectors.unpersist()
        return Outcome(model.explainedVariance.toArray().tolist(), scores, watch.seconds)

    try:
        yield lap
    finally:
        spark.stop()


if __name__ == "__main__":
    sys.exit(run(__doc__, session))
