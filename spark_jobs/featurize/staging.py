"""The single pass over the images: tasks write files into a staging folder, which are then gathered into segments.

Each task attempt writes its rows to new Parquet files in staging and returns their names. Spark accepts one result per
task, even if it retries or duplicates the task, so the results name the valid files. The files of lost attempts are
never read and are deleted with the folder. The job then gathers the tasks' files into segments, in the order of the
work list.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from spark_jobs.args import FeaturizeArgs
from spark_jobs.featurize import extraction, segments
from spark_jobs.lake import schemas, storage
from spark_jobs.model import mobilenet
from spark_jobs.records import Segment
from spark_jobs.runtime import workers

if TYPE_CHECKING:
    from pyspark import Accumulator, Broadcast, SparkContext

FOLDER = "staging"

KINDS = {extraction.FEATURES: schemas.FEATURES, extraction.REJECTS: schemas.REJECTS}
"""Schemas of the staged files, by the name of their folder in staging."""

COMPRESSION = "snappy"
"""Codec of the staged files, which are read once (decision 0027)."""


@dataclass(frozen=True)
class Written:
    """A file that a task has written.

    Attributes
    ----------
    name : str
        Name in its kind's folder in staging; unique to the attempt of the task.
    rows : int
        Number of rows, at least 1.
    """

    name: str
    rows: int


def write(
    sc: SparkContext,
    args: FeaturizeArgs,
    borders: npt.NDArray[np.int64],
    work_list: str,
    model: Broadcast[mobilenet.Model],
    engine: extraction.Engine,
    rejects: Accumulator[int],
) -> list[dict[str, Written]]:
    """Read, decode and featurize every image of the work list; each task processes a range of its rows.

    Tasks receive only numbers and borders, and return only the names and lengths of their files. They add the number of
    their rejects to ``rejects`` when they end; Spark counts each task once.

    Returns
    -------
    list of dict
        For each task, in order, its file of each kind; a kind without rows is left out.
    """

    def work(number: int) -> dict[str, Written]:
        share = range(int(borders[number]), int(borders[number + 1]))
        batches = extraction.featurize_share(args, work_list, share, model.value, engine)
        written = _write_share(args.run, number, batches)
        if extraction.REJECTS in written:
            rejects.add(written[extraction.REJECTS].rows)
        return written

    return workers.run(sc, range(len(borders) - 1), work)


def _write_share(run: str, number: int, batches: Iterator[dict[str, pa.RecordBatch]]) -> dict[str, Written]:
    name = f"part-{number:05d}-{uuid.uuid4().hex}.parquet"
    rows = dict.fromkeys(KINDS, 0)
    with ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for batch in batches:
            for kind, rows_of_kind in batch.items():
                if kind not in writers:
                    target = storage.join(run, FOLDER, kind, name)
                    file = segments.parquet_file(target, KINDS[kind], COMPRESSION)
                    writers[kind] = stack.enter_context(file)
                writers[kind].write_batch(rows_of_kind)
                rows[kind] += rows_of_kind.num_rows
    return {kind: Written(name, count) for kind, count in rows.items() if count}


def gather(sc: SparkContext, run: str, target: segments.Target, written: Sequence[dict[str, Written]]) -> list[Segment]:
    """Merge the tasks' files into segments, in the order of the work list.

    If there is one segment, the driver writes it: this takes a second at most, and starting a Spark job takes half a
    second.

    Parameters
    ----------
    sc : SparkContext
    run : str
        URI of the run's folder.
    target : Target
        Where the segments are written; their numbers begin with 0.
    written : sequence of dict
        The result of :func:`write`.
    """
    items = list(enumerate(share_out(written)))

    def work(item: tuple[int, list[dict[str, Written]]]) -> Segment | None:
        number, tasks = item
        return segments.write(target, number, [_source(run, task) for task in tasks], None)

    outcomes = [work(item) for item in items] if len(items) == 1 else workers.run(sc, items, work)
    return [segment for segment in outcomes if segment is not None]


def _source(run: str, task: dict[str, Written]) -> segments.Source:
    """Return the files that a task has written."""
    features, rejects = ((storage.join(run, FOLDER, kind, task[kind].name),) if kind in task else () for kind in KINDS)
    return segments.Source(features, rejects)


def share_out(written: Sequence[dict[str, Written]]) -> list[list[dict[str, Written]]]:
    """Return the tasks' files for each segment, in order."""
    shares: list[list[dict[str, Written]]] = []
    rows = segments.ROWS_PER_SEGMENT
    for task in written:
        images = sum(file.rows for file in task.values())
        if not images:
            continue
        if rows + images > segments.ROWS_PER_SEGMENT:
            shares.append([])
            rows = 0
        shares[-1].append(task)
        rows += images
    return shares
