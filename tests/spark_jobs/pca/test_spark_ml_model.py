"""The model in Spark ML's format: Spark loads it, and Spark itself writes the same files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.ml.feature import PCAModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession

from spark_jobs.numerics import decomposition, moments
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.pca import spark_ml
from tests.spark_jobs.feature_runs import realistic

pytestmark = [
    pytest.mark.slow,
    # PySpark's collect drops its side of a loopback connection without closing it first.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


def fit(n: int, d: int, k: int, scores: str = "projected") -> FittedPca:
    return decomposition.fit(moments.compute(realistic(n, d).astype(np.float64)), n_components=k, scores=scores)


def file_of(folder: Path, name: str) -> Path:
    """The one file with data in a folder that Spark or we have written."""
    (path,) = (path for path in (folder / name).glob("part-*") if not path.name.endswith(".crc"))
    return path


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("n", "d", "k"), [(40, 6, 3), (3, 8, 5), (1, 4, 4), (5, 1, 1)])
def test_spark_loads_the_model_and_gives_our_scores(
    spark: SparkSession, tmp_path: Path, n: int, d: int, k: int
) -> None:
    fitted = fit(n, d, k)
    uri = f"file://{tmp_path}/the 100 % model"
    spark_ml.write(uri, fitted, spark.version)
    loaded = PCAModel.load(uri)
    assert (loaded.getK(), loaded.getInputCol(), loaded.getOutputCol()) == (k, "features", "components")
    np.testing.assert_array_equal(loaded.pc.toArray(), fitted.components.T)
    np.testing.assert_array_equal(loaded.explainedVariance.toArray(), fitted.explained_variance_ratio[:k])

    new = realistic(7, d, seed=4)
    features = spark.createDataFrame(list(enumerate(new.tolist())), "row int, vector array<float>")
    scored = loaded.transform(features.select("row", array_to_vector("vector").alias("features")))
    found = np.array([row.components.toArray() for row in sorted(scored.select("row", "components").collect())])
    np.testing.assert_allclose(found, fitted.transform(new), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("n", "d", "k"), [(40, 6, 3), (1, 4, 4)])
def test_spark_itself_writes_the_same(spark: SparkSession, tmp_path: Path, n: int, d: int, k: int) -> None:
    fitted = fit(n, d, k)
    ours, theirs, again = tmp_path / "ours", tmp_path / "theirs", tmp_path / "again"
    spark_ml.write(ours.as_uri(), fitted, spark.version)
    loaded = PCAModel.load(ours.as_uri())
    loaded.save(theirs.as_uri())
    our_file, their_file = (pq.ParquetFile(file_of(folder, "data")) for folder in (ours, theirs))
    assert our_file.read().to_pylist() == their_file.read().to_pylist()
    assert our_file.schema_arrow.equals(their_file.schema_arrow)
    key = spark_ml.ROW_METADATA_KEY.encode()
    assert our_file.metadata.metadata[key] == their_file.metadata.metadata[key]
    lines = [json.loads(file_of(folder, "metadata").read_text()) for folder in (ours, theirs)]
    # PySpark names the unused default of outputCol after one of its own objects.
    assert list(lines[1]["defaultParamMap"]) == list(lines[0]["defaultParamMap"]) == ["outputCol"]
    assert lines[0] == lines[1] | {"timestamp": 0, "defaultParamMap": lines[0]["defaultParamMap"]}
    for folder in ("data", "metadata"):
        assert (ours / folder / "_SUCCESS").read_bytes() == (theirs / folder / "_SUCCESS").read_bytes()

    PCAModel.load(theirs.as_uri()).save(again.as_uri())
    last = PCAModel.load(again.as_uri())
    assert last.uid == loaded.uid
    np.testing.assert_array_equal(last.pc.toArray(), fitted.components.T)


def test_the_same_model_has_the_same_files_and_leftovers_go(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    spark_ml.write(one.as_uri(), fit(20, 4, 2), "3.5.5")
    (other / "data").mkdir(parents=True)
    (other / "data" / "part-00000-0a1b.snappy.parquet").write_bytes(b"of another writer")
    spark_ml.write(other.as_uri(), fit(20, 4, 2), "3.5.5")
    assert files_of(one) == files_of(other)
    assert sorted(files_of(one)) == [
        "data/_SUCCESS", "data/part-00000.snappy.parquet", "metadata/_SUCCESS", "metadata/part-00000",
    ]  # fmt: skip


def test_models_that_differ_have_uids_that_differ(tmp_path: Path) -> None:
    uids = set()
    for number, fitted in enumerate((fit(20, 4, 2), fit(21, 4, 2), fit(20, 4, 3), fit(20, 4, 2, "centred"))):
        folder = tmp_path / str(number)
        spark_ml.write(folder.as_uri(), fitted, "4.1.1")
        uids.add(json.loads(file_of(folder, "metadata").read_text())["uid"])
    assert len(uids) == 4
