"""Publishing: bringing ``results/``, the CSV and ``current.json`` up to date with a verified run.

New files come first, then the old ones go, then ``current.json`` names the run: a failure at any point loses nothing,
and a repetition ends in the same state.
"""

from __future__ import annotations

import shutil
from typing import Any, BinaryIO

from airflow.sdk import ObjectStoragePath

from include.locations import Lake
from include.objects import at, data_files, delete, put_json, writing

PUBLISHED_COLUMNS = ["path", "label", "features"]
"""The notebook's columns."""

ROWS_PER_GROUP = 4096
"""Rows held in memory at a time: 20 MB of features."""


def publish_run(lake: Lake, slug: str, record: dict[str, Any], aws_conn_id: str | None) -> dict[str, Any]:
    """Publish a run's features and principal components.

    Parameters
    ----------
    lake : Lake
        The lake.
    slug : str
        The run to publish; it has been verified.
    record : dict
        What to put in ``current.json`` beside what is published.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Returns
    -------
    dict
        What ``current.json`` holds.
    """
    run = lake.run(slug)
    target = at(lake.results, aws_conn_id)
    target.mkdir(parents=True, exist_ok=True)
    new = [
        _publish_part(source, target / f"part-{slug}-{number:05d}.parquet")
        for number, source in enumerate(data_files(at(run.features, aws_conn_id)))
    ]
    with (
        at(run.csv, aws_conn_id).open("rb") as source,  # type: ignore[no-untyped-call]
        writing(at(lake.results_csv, aws_conn_id)) as stream,
    ):
        shutil.copyfileobj(source, stream, 16 * 1024 * 1024)
    for item in list(target.iterdir()):
        if item.name not in new:
            delete(item)
    current = record | {"run": slug, "results": new}
    put_json(at(lake.current, aws_conn_id), current)
    return current


def _publish_part(source: ObjectStoragePath, target: ObjectStoragePath) -> str:
    with source.open("rb") as stream, writing(target) as output:  # type: ignore[no-untyped-call]
        _copy_columns(stream, output)
    return target.name


def _copy_columns(source: BinaryIO, target: BinaryIO) -> None:
    """Copy the published columns of one Parquet file, some rows at a time."""
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(source)
    schema = parquet.schema_arrow.remove_metadata()
    schema = schema.empty_table().select(PUBLISHED_COLUMNS).schema
    # Dictionaries and statistics of random floats only cost space and time.
    with pq.ParquetWriter(target, schema, compression="zstd", use_dictionary=["label"]) as writer:
        for batch in parquet.iter_batches(ROWS_PER_GROUP, columns=PUBLISHED_COLUMNS):
            writer.write_batch(batch.cast(schema))
