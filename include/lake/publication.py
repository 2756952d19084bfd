"""Publishing: bringing ``results/``, the CSV and ``current.json`` up to date with a verified run.

New files come first, then the old ones go, then ``current.json`` names the run: a failure at any point loses nothing,
and a repetition ends in the same state. The run that is named there is the one that a new run is compared with.
"""

from __future__ import annotations

import logging
import re
import shutil
from typing import Any, BinaryIO

from airflow.sdk import ObjectStoragePath

from include.lake.layout import SLUG, Lake
from include.lake.objects import atomic_write, delete_file, lake_path, parquet_files, read_json, write_json

log = logging.getLogger(__name__)

PUBLISHED_COLUMNS = ["path", "label", "features"]
"""The notebook's columns."""

ROWS_PER_GROUP = 4096
"""Rows held in memory at a time: 20 MB of features."""


def find_previous(lake: Lake, slug: str, model: str, aws_conn_id: str | None) -> dict[str, Any]:
    """Return the run that is published now, whose principal components a new run's are compared with.

    Having nothing to compare with is no error, whatever the cause: the new run, once published, puts it right.

    Parameters
    ----------
    lake : Lake
        The lake.
    slug : str
        The new run.
    model : str
        Digest of the model that the new run takes its features from; those of another one cannot be compared.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Returns
    -------
    dict
        ``run``: its slug, or None; ``pca_model``: URI of its fitted PCA, or None; ``note``: why there is none, or None.
    """
    nothing: dict[str, Any] = {"run": None, "pca_model": None, "note": None}
    try:
        published = read_json(lake_path(lake.current, aws_conn_id), "publish_results writes it")["run"]
    except FileNotFoundError:
        return nothing | {"note": "no run had been published before"}
    except (ValueError, KeyError) as error:
        return nothing | {"note": _damaged(lake, str(error))}
    if not isinstance(published, str) or not re.fullmatch(SLUG, published):
        return nothing | {"note": _damaged(lake, f"its run is {published!r}")}
    if published == slug:
        return nothing | {"note": "this run itself was the published one"}
    run, found = lake.run(published), nothing | {"run": published}
    try:
        features_of = read_json(lake_path(run.featurize_summary, aws_conn_id), "featurize writes it")["model"]["digest"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        return found | {"note": f"the run {published} does not tell which model its features are of ({error})"}
    if features_of != model:
        return found | {"note": f"its features are of the model {features_of[:16]}, those of this run of {model[:16]}"}
    if not lake_path(run.pca_model, aws_conn_id).exists():
        return found | {"note": f"{run.pca_model} is not there any more"}
    return found | {"pca_model": run.pca_model}


def _damaged(lake: Lake, problem: str) -> str:
    log.warning(
        "%s does not name a run (%s): what reads it fails until a run publishes, as this one will; it is compared with "
        "none",
        lake.current,
        problem,
    )
    return f"{lake.current} did not name a run"


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
    target = lake_path(lake.results, aws_conn_id)
    target.mkdir(parents=True, exist_ok=True)
    new = [
        _publish_part(source, target / f"part-{slug}-{number:05d}.parquet")
        for number, source in enumerate(parquet_files(lake_path(run.features, aws_conn_id)))
    ]
    with (
        lake_path(run.csv, aws_conn_id).open("rb") as source,  # type: ignore[no-untyped-call]
        atomic_write(lake_path(lake.results_csv, aws_conn_id)) as stream,
    ):
        shutil.copyfileobj(source, stream, 16 * 1024 * 1024)
    for item in list(target.iterdir()):
        if item.name not in new:
            delete_file(item)
    current = record | {"run": slug, "results": new}
    write_json(lake_path(lake.current, aws_conn_id), current)
    return current


def _publish_part(source: ObjectStoragePath, target: ObjectStoragePath) -> str:
    with source.open("rb") as stream, atomic_write(target) as output:  # type: ignore[no-untyped-call]
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
