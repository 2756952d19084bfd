"""The loaders that docs/pca.md shows, run as they stand there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pyspark.ml.feature
import pytest
import sklearn.decomposition
from pyspark.ml.functions import array_to_vector
from pyspark.sql import SparkSession

from spark_jobs.args import PcaArgs
from spark_jobs.pca import job
from tests.spark_jobs.feature_runs import realistic, write_run

pytestmark = [
    pytest.mark.slow,
    # PySpark's collect drops its side of a loopback connection without closing it first.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "pca.md"
ROWS = realistic(40, 8).astype(np.float64)


@pytest.fixture(params=["projected", "centred", "whitened"])
def run_folder(request: pytest.FixtureRequest, spark: SparkSession, tmp_path: Path) -> Path:
    """A run's folder whose scores are of one of the kinds."""
    arguments = PcaArgs(write_run(tmp_path, ROWS), variance_target=None, n_components=3, scores=request.param)
    job.run(arguments)
    (tmp_path / "results").mkdir()
    for file in tmp_path.glob("segments/*/features.parquet"):  # as publishing copies them
        shutil.copyfile(file, tmp_path / "results" / f"part-{file.parent.name}.parquet")
    return tmp_path


def run_documented(**names: Any) -> dict[str, Any]:
    """Run the document's examples, which have three lines each, in their order."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.S)
    assert [len(block.splitlines()) for block in blocks] == [3, 3, 3]
    for block in blocks:
        exec(block, names)
    return names


def test_every_loader_gives_the_scores_of_the_job(
    run_folder: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder / "pca")
    names = run_documented(
        np=np, sklearn=sklearn, pyspark=pyspark, array_to_vector=array_to_vector,
        features=ROWS, run=run_folder.as_uri(), root=run_folder.as_uri(), spark=spark,
    )  # fmt: skip
    written = ds.dataset(run_folder / "pca" / "scores").to_table()
    scores = np.array(written.column("components").to_pylist())
    with np.load("model.npz") as model:
        kind = str(model["scores"])
        offset, deviations = model["mean_"] @ model["components_"].T, np.sqrt(model["explained_variance_"])

    whitened = names["centred"] / deviations
    by_numpy = {"projected": names["projected"], "centred": names["centred"], "whitened": whitened}[kind]
    np.testing.assert_allclose(by_numpy, scores, rtol=1e-12, atol=1e-12)
    by_scikit_learn = whitened if kind == "whitened" else names["centred"]
    np.testing.assert_allclose(names["scores"], by_scikit_learn, rtol=1e-12, atol=1e-12)

    rows = names["scored"].select("path", "components").collect()
    by_spark = {row.path: row.components.toArray() for row in rows}
    projected = np.array([by_spark[path] for path in written.column("path").to_pylist()])
    from_spark = {"projected": projected, "centred": projected - offset, "whitened": (projected - offset) / deviations}
    np.testing.assert_allclose(from_spark[kind], scores, rtol=0, atol=1e-12)
