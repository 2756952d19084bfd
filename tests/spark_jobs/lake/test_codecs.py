"""Every Parquet file of a run has a codec that Spark 3.3, Athena, Trino, DuckDB and Polars read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs.args import PcaArgs
from spark_jobs.featurize import segments
from spark_jobs.lake import schemas
from spark_jobs.pca import job
from tests.spark_jobs.feature_runs import realistic, write_run

# PySpark's collect drops its side of a loopback connection without closing it first.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

ROWS = realistic(40, 8)


def codecs_of(file: Path) -> set[str]:
    """The codecs of a file's columns, as its footer names them."""
    metadata = pq.read_metadata(file)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return {group.column(number).compression for group in groups for number in range(metadata.num_columns)}


@pytest.mark.parametrize("schema", [schemas.FEATURES, schemas.REJECTS], ids=["features", "rejects"])
def test_features_and_rejects_have_a_codec_that_spark_before_3_5_reads(schema: pa.Schema, tmp_path: Path) -> None:
    file = tmp_path / "part-0.parquet"
    with segments.parquet_file(file.as_uri(), schema) as writer:
        writer.write_table(schema.empty_table())
    assert codecs_of(file) == {"ZSTD"}


@pytest.mark.slow  # starts Spark
@pytest.mark.usefixtures("spark")
def test_features_of_an_old_run_with_lz4_raw_are_still_read(tmp_path: Path) -> None:
    run = write_run(tmp_path, ROWS, with_moments=True)
    files = sorted(tmp_path.glob("segments/*/features.parquet"))
    assert {codec for file in files for codec in codecs_of(file)} == {"ZSTD"}
    job.run(PcaArgs(run, variance_target=None, n_components=3))
    [expected] = _scores(tmp_path)
    for file in files:
        table, metadata = pq.read_table(file), pq.read_metadata(file).metadata
        with pq.ParquetWriter(file, table.schema, compression="lz4") as writer:
            writer.add_key_value_metadata({key: value for key, value in metadata.items() if key != b"ARROW:schema"})
            writer.write_table(table)
        assert codecs_of(file) == {"LZ4"}, "pyarrow's name of LZ4_RAW, which it writes"
    job.run(PcaArgs(run, variance_target=None, n_components=3))
    [found] = _scores(tmp_path)
    assert np.array_equal(found, expected)
    [scores] = (tmp_path / "pca" / "scores").glob("*.parquet")
    assert codecs_of(scores) == {"SNAPPY"}


def _scores(run: Path) -> list[np.ndarray]:
    table = pq.read_table(run / "pca" / "scores")
    return [np.array(table.column("components").to_pylist())]
