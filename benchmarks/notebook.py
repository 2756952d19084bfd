"""The notebook's pipeline, rewritten from its description, for comparison with ours.

The stages are those of the notebook. ``binaryFile`` lists and reads the images. Keras' MobileNetV2 runs in a
``pandas_udf`` of type SCALAR_ITER on 24 partitions, with broadcast weights. The features are written to Parquet and
read back with pandas. Spark ML's PCA is fitted with k = 1280 and transforms the features. The smallest k that explains
80 % of the variance is ``argmax + 1``. ``toPandas`` and ``to_csv`` write the result. Nothing is cached, so that every
pass featurizes all images again.

These differences from the notebook are necessary here:

- paths are arguments and local, not ``s3://ocr-p9``;
- the weights are read from a file, not downloaded: ``include_top=False, pooling="avg"`` gives the same tensor as
  ``layers[-2]`` of the notebook's ``include_top=True`` model;
- a local Spark session replaces EMR;
- the duration of each stage is measured, and printed as one line of JSON at the end.

The benchmark runs it in a separate process: ``python -m benchmarks.notebook --images FOLDER --output FOLDER --weights
FILE``.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS: dict[str, float] = {}


def main() -> int:
    """Run all stages and print rows, k and seconds as the last line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notebook", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="folder of <label>/*.jpg")
    parser.add_argument("--output", type=Path, required=True, help="folder for results/ and results_csv/")
    parser.add_argument("--weights", type=Path, required=True, help="Keras weights of MobileNetV2 without its top")
    parser.add_argument("--master", default="local[*]", help="Spark master (default: %(default)s)")
    args = parser.parse_args()
    weights = str(args.weights.resolve())
    os.environ["PYSPARK_PYTHON"] = sys.executable

    begin = time.perf_counter()
    spark = timed("start", lambda: start_session(args.master))
    model_weights = timed("model", lambda: spark.sparkContext.broadcast(build_model(weights).get_weights()))
    images = timed("listing", lambda: load_images(spark, args.images.resolve().as_uri()))
    data_features = featurized(images, model_weights, weights)
    results = args.output.resolve() / "results"
    timed("features", lambda: data_features.write.mode("overwrite").parquet(results.as_uri()))
    frame = timed("read_back", lambda: read_back(results))
    vectorized, pca_model = timed("pca_fit", lambda: fit_pca(data_features))
    k = timed("transform_and_csv", lambda: write_csv(vectorized, pca_model, args.output.resolve() / "results_csv"))
    spark.stop()
    total = time.perf_counter() - begin
    seconds = {name: round(value, 3) for name, value in {**SECONDS, "total": total}.items()}
    print(json.dumps({"rows": len(frame), "dimensions": len(frame.loc[0, "features"]), "k": k, "seconds": seconds}))
    return 0


def timed(stage: str, work: Callable[[], Any]) -> Any:
    """Run a stage and record its duration."""
    begin = time.perf_counter()
    result = work()
    SECONDS[stage] = time.perf_counter() - begin
    print(f"notebook: {stage} {SECONDS[stage]:.1f} s", file=sys.stderr, flush=True)
    return result


def start_session(master: str) -> Any:
    """Import the libraries of the notebook's first cells, and start a Spark session."""
    import tensorflow  # noqa: F401  # the notebook imports it here, as part of its start
    from pyspark.sql import SparkSession

    return SparkSession.builder.master(master).appName("notebook").getOrCreate()


def build_model(weights: str) -> Any:
    """Return MobileNetV2 without its classification layer."""
    from tensorflow.keras.applications.mobilenet_v2 import MobileNetV2

    model = MobileNetV2(weights=weights, include_top=False, pooling="avg", input_shape=(224, 224, 3))
    for layer in model.layers:
        layer.trainable = False
    return model


def load_images(spark: Any, folder: str) -> Any:
    """List and read the images with their labels, and print a few, as the notebook does."""
    from pyspark.sql.functions import col, element_at, split

    images = (
        spark.read.format("binaryFile")
        .option("pathGlobFilter", "*.jpg")
        .option("recursiveFileLookup", "true")
        .load(folder)
    )
    images.show(5)
    images = images.withColumn("label", element_at(split(col("path"), "/"), -2))
    images.printSchema()
    images.select("path", "label").show(5, False)
    return images


def featurized(images: Any, model_weights: Any, weights: str) -> Any:
    """Return the lazy DataFrame of path, label and features."""
    import pandas as pd
    from pyspark.sql.functions import PandasUDFType, col, pandas_udf

    def preprocess_image(content: bytes) -> Any:
        from PIL import Image
        from tensorflow.keras.applications.mobilenet_v2 import preprocess_input
        from tensorflow.keras.preprocessing.image import img_to_array

        return preprocess_input(img_to_array(Image.open(io.BytesIO(content)).resize([224, 224])))

    def extract_features(model: Any, content_series: pd.Series) -> pd.Series:
        import numpy as np

        preds = model.predict(np.stack(content_series.map(preprocess_image)))
        return pd.Series([p.flatten() for p in preds])

    def extract(content_series_iter):  # without annotations, as in the notebook: pandas_udf gets the type
        model = build_model(weights)
        model.set_weights(model_weights.value)
        for content_series in content_series_iter:
            yield extract_features(model, content_series)

    extract_features_udf = pandas_udf(extract, "array<float>", PandasUDFType.SCALAR_ITER)
    return images.repartition(24).select(
        col("path"), col("label"), extract_features_udf(col("content")).alias("features")
    )


def read_back(results: Path) -> Any:
    """Read the features with pandas."""
    import pandas as pd

    return pd.read_parquet(results, engine="pyarrow")


def fit_pca(data_features: Any) -> tuple[Any, Any]:
    """Convert the features to Spark ML vectors and fit k = 1280 components; this featurizes all images again."""
    from pyspark.ml import feature
    from pyspark.ml.linalg import Vectors, VectorUDT
    from pyspark.sql import functions as F

    array_to_vector = F.udf(lambda array: Vectors.dense(array), VectorUDT())
    vectorized = data_features.withColumn("features_vector", array_to_vector("features"))
    pca = feature.PCA(k=1280, inputCol="features_vector", outputCol="pca_features_vectors")
    return vectorized, pca.fit(vectorized)


def write_csv(vectorized: Any, pca_model: Any, folder: Path) -> int:
    """Transform, which featurizes all images again, write the CSV, and return k."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import ArrayType, DoubleType

    transformed = pca_model.transform(vectorized)
    cumulative = pca_model.explainedVariance.toArray().cumsum()
    k = int((cumulative >= 0.8).argmax()) + 1
    vector_to_array = F.udf(lambda vector: vector.toArray().tolist(), ArrayType(DoubleType()))
    arrays = transformed.withColumn("pca_array", vector_to_array("pca_features_vectors"))
    columns = [F.col("pca_array")[number].alias(f"F {number + 1}") for number in range(k)]
    frame = arrays.select(*columns, "label").toPandas()
    folder.mkdir(parents=True, exist_ok=True)  # unlike S3, a disk needs the folder
    frame.to_csv(folder / "pca_features.csv", index=False)
    return k


if __name__ == "__main__":
    sys.exit(main())
