"""The fitted model in Spark ML's format, for ``pyspark.ml.feature.PCAModel.load(uri)``. Written without Spark.

The format is that of ``PCAModel.write`` since Spark 2.0, the same in 3.5 and 4.1: a line of JSON with the parameters,
and a Parquet file with one row that holds the matrix and the vector. The file's footer declares both as user-defined
types.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs.lake import storage
from spark_jobs.numerics.fitted_pca import FittedPca

INPUT_COLUMN = "features"
OUTPUT_COLUMN = "components"

ROW_METADATA_KEY = "org.apache.spark.sql.parquet.row.metadata"
"""Key in a Parquet footer under which Spark stores its own schema."""

_DENSE = 1
"""Tag of a dense matrix or vector in its user-defined type; 0 is a sparse one."""

_INTS = pa.list_(pa.field("element", pa.int32(), nullable=False))
_DOUBLES = pa.list_(pa.field("element", pa.float64(), nullable=False))

_MATRIX = pa.struct(
    [
        pa.field("type", pa.int8(), nullable=False),
        pa.field("numRows", pa.int32(), nullable=False),
        pa.field("numCols", pa.int32(), nullable=False),
        pa.field("colPtrs", _INTS),
        pa.field("rowIndices", _INTS),
        pa.field("values", _DOUBLES),
        pa.field("isTransposed", pa.bool_(), nullable=False),
    ]
)
"""The SQL type of ``org.apache.spark.ml.linalg.MatrixUDT``."""

_VECTOR = pa.struct(
    [
        pa.field("type", pa.int8(), nullable=False),
        pa.field("size", pa.int32()),
        pa.field("indices", _INTS),
        pa.field("values", _DOUBLES),
    ]
)
"""The SQL type of ``org.apache.spark.ml.linalg.VectorUDT``."""

SCHEMA = pa.schema([("pc", _MATRIX), ("explainedVariance", _VECTOR)])

_USER_DEFINED = {"pc": "MatrixUDT", "explainedVariance": "VectorUDT"}

_SPARK_NAMES = {pa.int8(): "byte", pa.int32(): "integer", pa.float64(): "double", pa.bool_(): "boolean"}


def write(folder: str, fitted: FittedPca, spark_version: str) -> None:
    """Write a model as a ``PCAModel`` with k components; equal models and versions give equal bytes.

    ``PCAModel.transform`` gives *projected* scores, x·V, whatever the kind of the model's scores: Spark ML never
    centres.

    Parameters
    ----------
    folder : str
        URI. Its previous content is deleted. The metadata are written last; without them Spark reads nothing.
    fitted : FittedPca
    spark_version : str
        Version to record as the writer's, in the form of ``SparkContext.version``: Spark 2.0 or later.
    """
    storage.delete(folder)
    with (
        storage.writing(storage.join(folder, "data", "part-00000.snappy.parquet")) as stream,
        pq.ParquetWriter(stream, SCHEMA, compression="snappy", use_dictionary=False, store_schema=False) as writer,
    ):
        writer.add_key_value_metadata({ROW_METADATA_KEY: _row_metadata()})
        writer.write_table(pa.Table.from_pylist([_row(fitted)], schema=SCHEMA))
    storage.write_bytes(storage.join(folder, "data", "_SUCCESS"), b"")
    line = json.dumps(_metadata(fitted, spark_version), separators=(",", ":"))
    storage.write_bytes(storage.join(folder, "metadata", "part-00000"), f"{line}\n".encode())
    storage.write_bytes(storage.join(folder, "metadata", "_SUCCESS"), b"")


def _metadata(fitted: FittedPca, spark_version: str) -> dict[str, Any]:
    uid = f"PCA_{hashlib.sha256(fitted.to_npz()).hexdigest()[:12]}"
    return {
        "class": "org.apache.spark.ml.feature.PCAModel",
        "timestamp": 0,  # the time of writing in ms: fixed, so that equal models have equal bytes
        "sparkVersion": spark_version,
        "uid": uid,
        "paramMap": {"inputCol": INPUT_COLUMN, "outputCol": OUTPUT_COLUMN, "k": fitted.k},
        "defaultParamMap": {"outputCol": f"{uid}__output"},
    }


def _row(fitted: FittedPca) -> dict[str, Any]:
    # Spark stores values column by column. A column of its matrix is a component; in ours a component is a row.
    matrix = {
        "type": _DENSE,
        "numRows": len(fitted.mean),
        "numCols": fitted.k,
        "values": fitted.components.ravel(),
        "isTransposed": False,
    }
    return {"pc": matrix, "explainedVariance": {"type": _DENSE, "values": fitted.explained_variance_ratio[: fitted.k]}}


def _row_metadata() -> str:
    """Return the schema as Spark's ``StructType.json()`` writes it."""
    fields = [
        _spark_field(
            column.name,
            {
                "type": "udt",
                "class": f"org.apache.spark.ml.linalg.{_USER_DEFINED[column.name]}",
                "pyClass": f"pyspark.ml.linalg.{_USER_DEFINED[column.name]}",
                "sqlType": _spark_type(column.type),
            },
            nullable=True,
        )
        for column in SCHEMA
    ]
    return json.dumps({"type": "struct", "fields": fields}, separators=(",", ":"))


def _spark_type(arrow: pa.DataType) -> str | dict[str, Any]:
    """Return an Arrow type as Spark writes it in a JSON schema."""
    if pa.types.is_struct(arrow):
        fields = [_spark_field(each.name, _spark_type(each.type), nullable=each.nullable) for each in arrow]
        return {"type": "struct", "fields": fields}
    if pa.types.is_list(arrow):
        return {"type": "array", "elementType": _spark_type(arrow.value_type), "containsNull": False}
    return _SPARK_NAMES[arrow]


def _spark_field(name: str, kind: str | dict[str, Any], *, nullable: bool) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": nullable, "metadata": {}}
