"""Spark ML's PCA of a DataFrame of vectors, written as in Spark's guide.

``fit`` reads the features in three passes (the length of the first vector, the means, the covariance), ``transform`` in
one. Variants: ``plain`` reads the files in each pass; ``cached`` keeps the vectors in memory until the end of a lap.
Both use Spark's default linear algebra, in Java, and have enough memory. ``openblas`` is ``cached`` with a native
library that is not part of Spark, configured as in Spark's "MLlib Linear Algebra Acceleration Guide".
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
"""The cached vectors take 10 KB per image."""


def openblas() -> Path:
    """Return the OpenBLAS library of this environment, which is part of SciPy's wheel.

    Raises
    ------
    SystemExit
        If there is not exactly one.
    """
    folder = Path(sysconfig.get_path("platlib")) / "scipy.libs"
    found = sorted(folder.glob("libopenblas*.so"))
    if len(found) != 1:
        raise SystemExit(f"{folder} has {len(found)} libraries libopenblas*.so: expected one")
    return found[0]


def use_openblas() -> dict[str, str]:
    """Set the environment variables of OpenBLAS, and return the Spark settings that select it.

    Each task uses one BLAS thread, as the guide recommends, since Spark runs one task per core. The libraries that
    OpenBLAS needs are in its folder.
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
        # These calls raise an error if the library is missing; Spark would only log it and use Java.
        spark._jvm.dev.ludovic.netlib.blas.NativeBLAS.getInstance()
        spark._jvm.dev.ludovic.netlib.lapack.NativeLAPACK.getInstance()
    scores = args.output / "scores"

    def lap() -> Outcome:
        watch = Stages()
        features = spark.read.option("recursiveFileLookup", "true").parquet(args.features.as_uri())
        vectors = features.select("path", "label", array_to_vector(col("features")).alias("vector"))
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
