"""The readers that docs/results.md shows, run as they stand there: every label stays as it is."""

from __future__ import annotations

import json
import pathlib
import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn.model_selection
import sklearn.neighbors
from pyspark.sql import SparkSession

from spark_jobs.lake import schemas
from spark_jobs.pca import score_csv

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "results.md"
LABELS = ["NA", "null", "nan", "None", "007", "1e5", "true", 'a "b"', "a, b", "a\nb", "a\\b", " a ", "=1+1", "é", "-"]
COMPONENTS = np.random.default_rng(1).normal(size=(len(LABELS), 2)) * [[1e-17, 1e9]]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with published results whose labels look like numbers, missing values, formulas or several fields."""
    paths = [f"file:///lake/{number}.jpg" for number in range(len(LABELS))]
    (tmp_path / "results").mkdir()
    pq.write_table(pa.table({"path": paths, "label": LABELS}), tmp_path / "results" / "part-0.parquet")
    scores, part = tmp_path / "scores.parquet", tmp_path / "part.csv"
    table = pa.table({"path": paths, "label": LABELS, "components": list(COMPONENTS)}, schema=schemas.SCORES)
    pq.write_table(table, scores)
    score_csv.write_part(scores.as_uri(), part.as_uri())
    (tmp_path / "results_csv").mkdir()
    score_csv.assemble([part.as_uri()], 2, (tmp_path / "results_csv" / "pca_features.csv").as_uri())
    return tmp_path


def read_as_documented(reader: str, lake: Path, **names: Any) -> dict[str, Any]:
    """Run the document's example of one reader; return its variables."""
    [section] = re.findall(rf"## With {reader}\n(.*?)(?=\n## |\Z)", DOCUMENT.read_text(encoding="utf-8"), flags=re.S)
    [block] = re.findall(r"```python\n(.*?)```", section, flags=re.S)
    variables = {"root": str(lake), "scores": str(lake / "results_csv" / "pca_features.csv"), **names}
    exec(block, variables)
    return variables


def test_pandas_keeps_labels_such_as_na_and_007_as_text(lake: Path) -> None:
    read = read_as_documented("pandas", lake, pandas=pd)
    assert read["features"]["label"].tolist() == LABELS
    components = read["components"]
    assert components["label"].tolist() == LABELS
    assert components[["F 1", "F 2"]].to_numpy().tolist() == COMPONENTS.tolist(), "every digit"
    readme = (DOCUMENT.parents[1] / "README.md").read_text(encoding="utf-8")
    [short] = re.findall(r"`(pandas\.read_csv\(.*?\))`", readme)
    path = lake / "results_csv" / "pca_features.csv"
    assert eval(short, {"pandas": pd, "path": path})["label"].tolist() == LABELS
    plain = pd.read_csv(path)
    assert plain["label"].isna().sum() == 4, "the options are necessary"


@pytest.mark.slow  # starts Spark
def test_spark_keeps_labels_such_as_na_and_007_as_text(lake: Path, spark: SparkSession) -> None:
    read = read_as_documented("Spark", lake, spark=spark)
    assert sorted(row["label"] for row in read["features"].collect()) == sorted(LABELS)
    rows = read["components"].collect()
    assert [row["label"] for row in rows] == LABELS
    assert [[row["F 1"], row["F 2"]] for row in rows] == COMPONENTS.tolist()
    assert [kind for _, kind in read["components"].dtypes] == ["double", "double", "string"]


def test_polars_keeps_labels_such_as_na_and_007_as_text(lake: Path) -> None:
    read = read_as_documented("Polars", lake, polars=polars)
    assert read["features"]["label"].to_list() == LABELS
    assert read["components"]["label"].to_list() == LABELS
    assert read["components"].select("F 1", "F 2").to_numpy().tolist() == COMPONENTS.tolist()


def test_duckdb_keeps_labels_such_as_na_and_007_as_text(lake: Path) -> None:
    [block] = re.findall(r"## With DuckDB\n```sql\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.S)
    with duckdb.connect() as connection:
        features, components = (
            connection.execute(line.replace(".local/lake", str(lake))).fetchall() for line in block.splitlines()
        )
    assert [row[1] for row in features] == LABELS
    assert components == [(*row, label) for row, label in zip(COMPONENTS.tolist(), LABELS, strict=True)]


def test_scikit_learn_holds_out_whole_series_of_photos(tmp_path: Path) -> None:
    """The photos that are nearest to a series, apart from its own, have the other label."""
    places = {"NA/": 0.0, "007/r_": 1.0, "007/": 100.0, "NA/r_": 101.0}
    photos = [(f"{series}{number}_100.jpg", place) for series, place in places.items() for number in range(9)]
    table = {
        "path": [f"file:///lake/data/{name}" for name, _ in photos],
        "label": [name.split("/")[0] for name, _ in photos],
        "components": [[place, 0.0] for _, place in photos],
    }
    (tmp_path / "scores").mkdir()
    pq.write_table(pa.table(table, schema=schemas.SCORES), tmp_path / "scores" / "part-0.parquet")
    (tmp_path / "current.json").write_text(json.dumps({"scores": "scores"}))
    names = {"json": json, "pathlib": pathlib, "pandas": pd, "numpy": np, "sklearn": sklearn}
    read = read_as_documented("scikit-learn", tmp_path, **names)
    assert max(read["accuracy"]) <= 0.5
    split = sklearn.model_selection.StratifiedKFold(2, shuffle=True, random_state=0)
    labels = read["photos"]["label"]
    at_random = sklearn.model_selection.cross_val_score(read["classifier"], read["components"], labels, cv=split)
    assert list(at_random) == [1.0, 1.0], "without groups the accuracy would be 100 %"
