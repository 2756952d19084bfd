"""Publication: ``results/``, the CSV and ``current.json`` are updated from a verified run.

The new files are written first, then the old files are deleted, then ``current.json`` names the run. A failure at any
point loses no published row, and a repetition leads to the same state. New runs are compared with the published run.
"""

from __future__ import annotations

import logging
import re
import shutil
from typing import BinaryIO

from include.lake.layout import SLUG, Lake
from include.lake.objects import LakePath, atomic_write, delete_file, parquet_files, read_json, write_json
from include.records import Current, Previous, Publication

log = logging.getLogger(__name__)

PUBLISHED_COLUMNS = ["path", "label", "features"]
"""The columns of the notebook's results."""

ROWS_PER_GROUP = 4096
"""Rows in memory at a time: 20 MB of features."""


def find_previous(lake: Lake, slug: str, model: str, aws_conn_id: str | None) -> Previous:
    """Return the run that is published now; the principal components of a new run are compared with its components.

    If no comparison is possible, ``note`` says why. This is never an error, since publishing the new run repairs it.

    Parameters
    ----------
    lake : Lake
        The lake.
    slug : str
        The new run.
    model : str
        Digest of the new run's model. Features of different models cannot be compared.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    try:
        published = read_json(LakePath(lake.current, aws_conn_id), "publish_results writes it")["run"]
    except FileNotFoundError:
        return _incomparable("no run had been published before")
    except (ValueError, KeyError) as error:
        return _incomparable(_report_damage(lake, str(error)))
    if not isinstance(published, str) or not re.fullmatch(SLUG, published):
        return _incomparable(_report_damage(lake, f"its run is {published!r}"))
    if published == slug:
        return _incomparable("this run itself was the published one")
    run = lake.run(published)
    try:
        digest = read_json(LakePath(run.featurize_summary, aws_conn_id), "featurize writes it")["model"]["digest"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        return _incomparable(f"the summary of the run {published} does not name its model ({error})", published)
    if digest != model:
        return _incomparable(f"its features are from the model {digest[:16]}, this run's from {model[:16]}", published)
    if not LakePath(run.pca_model, aws_conn_id).exists():
        return _incomparable(f"{run.pca_model} does not exist any more", published)
    return {"run": published, "pca_model": run.pca_model, "note": None}


def _incomparable(note: str, run: str | None = None) -> Previous:
    return {"run": run, "pca_model": None, "note": note}


def _report_damage(lake: Lake, problem: str) -> str:
    log.warning(
        "%s does not name a run (%s): nothing is compared, and its readers will fail until a run publishes, which this "
        "run will do at its end",
        lake.current,
        problem,
    )
    return f"{lake.current} did not name a run"


def publish_run(lake: Lake, slug: str, record: Publication, aws_conn_id: str | None) -> Current:
    """Publish a verified run; return the content of ``current.json``.

    Parameters
    ----------
    lake : Lake
        The lake.
    slug : str
        The run.
    record : Publication
        What ``current.json`` says about the run, without the names of its files.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    run = lake.run(slug)
    target = LakePath(lake.results, aws_conn_id)
    new = [
        _publish_part(source, target / f"part-{slug}-{number:05d}.parquet")
        for number, source in enumerate(parquet_files(LakePath(run.features, aws_conn_id)))
    ]
    with (
        LakePath(run.csv, aws_conn_id).open() as source,
        atomic_write(LakePath(lake.results_csv, aws_conn_id)) as stream,
    ):
        shutil.copyfileobj(source, stream, 16 * 1024 * 1024)
    for name in target.names():
        if name not in new:
            delete_file(target / name)
    current: Current = {**record, "run": slug, "results": new}
    write_json(LakePath(lake.current, aws_conn_id), current)
    return current


def _publish_part(source: LakePath, target: LakePath) -> str:
    with source.open() as stream, atomic_write(target) as output:
        _copy_columns(stream, output)
    return target.name


def _copy_columns(source: BinaryIO, target: BinaryIO) -> None:
    """Copy the published columns of a Parquet file, one row group at a time."""
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(source)
    schema = parquet.schema_arrow.remove_metadata()
    schema = schema.empty_table().select(PUBLISHED_COLUMNS).schema
    # Dictionaries for columns other than the label would cost space and time and save nothing.
    with pq.ParquetWriter(target, schema, compression="zstd", use_dictionary=["label"]) as writer:
        for batch in parquet.iter_batches(ROWS_PER_GROUP, columns=PUBLISHED_COLUMNS):
            writer.write_batch(batch.cast(schema))
