"""The published segments in a new state: rows that are gone leave them, and small segments are merged.

Segments are never edited. A segment that loses rows is replaced by a new one with the rows that stay, whose moments are
computed anew: subtracting moments would round.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from spark_jobs.args import REJECTS_FOLDER
from spark_jobs.featurize import segments
from spark_jobs.featurize.segments import Source, Target
from spark_jobs.lake import storage
from spark_jobs.lake.paths import read_paths
from spark_jobs.records import Segment
from spark_jobs.runtime import workers

if TYPE_CHECKING:
    from pyspark import SparkContext

logger = logging.getLogger(__name__)

Sources = dict[str, list[str]]
"""Ids of the segments whose rows a segment has, in their order, by its id."""

FIRST_VERSION_FEATURES = "features"
"""Folder of the features in a run of the lake's first version."""


def remove_gone(
    sc: SparkContext, target: Target, numbers: range, published: Sequence[Segment], gone: str
) -> tuple[list[Segment], Sources]:
    """Return the published segments without the rows that are gone, in order, and the sources of the new ones.

    Parameters
    ----------
    sc : SparkContext
    target : Target
    numbers : range
        Numbers for the new segments, one per published segment.
    published : sequence of Segment
    gone : str
        URI of the paths that are gone.
    """
    bounds = _bounds(gone)
    if bounds is None:
        return list(published), {}
    first, last = bounds
    candidates = [
        (number, segment)
        for number, segment in zip(numbers, published, strict=True)
        if segment["first_path"] <= last and segment["last_path"] >= first
    ]

    def work(item: tuple[int, Segment]) -> tuple[str, Segment | None]:
        number, segment = item
        source = segments.source(target.folder, segment)
        paths = read_paths(gone, segment["first_path"], segment["last_path"])
        if not segments.count_dropped(source, paths):
            return segment["id"], segment
        return segment["id"], segments.write(target, number, [source], paths)

    renewed = dict(workers.run(sc, candidates, work))
    outcomes = [renewed.get(segment["id"], segment) for segment in published]
    pairs = zip(outcomes, published, strict=True)
    sources = {new["id"]: [old["id"]] for new, old in pairs if new is not None and new["id"] != old["id"]}
    return [segment for segment in outcomes if segment is not None], sources


def _bounds(gone: str) -> tuple[str, str] | None:
    """Return the smallest and the largest path of the sorted list, or None if it is empty."""
    with storage.open_file(gone) as stream, pq.ParquetFile(stream) as file:
        groups = [group for group in range(file.num_row_groups) if file.metadata.row_group(group).num_rows]
        if not groups:
            return None
        first, last = (file.read_row_group(group, use_threads=False).column(0) for group in (groups[0], groups[-1]))
    return first[0].as_py(), last[-1].as_py()


def adopt(sc: SparkContext, target: Target, start: int, run: str, gone: str) -> tuple[list[Segment], int]:
    """Take over the rows of a run of the lake's first version, without those that are gone.

    Parameters
    ----------
    sc : SparkContext
    target : Target
    start : int
        Number of the first segment.
    run : str
        URI of the run's folder.
    gone : str
        URI of the paths that are gone.

    Returns
    -------
    adopted : list of Segment
    next_number : int
        The first number that is free. A file of which every row is gone has a number, but no segment.
    """
    folder = storage.join(run, FIRST_VERSION_FEATURES)
    files = [Source((uri,), ()) for uri in _parquet_files(folder)]
    rejects = _parquet_files(storage.join(run, REJECTS_FOLDER))
    items = list(enumerate([*files, *([Source((), tuple(rejects))] if rejects else [])], start))
    bounds = _bounds(gone)

    def work(item: tuple[int, Source]) -> Segment | None:
        number, source = item
        return segments.write(target, number, [source], read_paths(gone, *bounds) if bounds else None)

    return [segment for segment in workers.run(sc, items, work) if segment is not None], start + len(items)


def _parquet_files(folder: str) -> list[str]:
    return [storage.join(folder, name) for name in storage.names(folder) if name.endswith(".parquet")]


def compact(
    sc: SparkContext, target: Target, start: int, live: Sequence[Segment], *, most: int, keep_results: bool
) -> tuple[list[Segment], Sources]:
    """Merge small segments if there are too many; return the live segments, in order, and the sources of the new ones.

    Parameters
    ----------
    sc : SparkContext
    target : Target
    start : int
        Number of the first new segment.
    live : sequence of Segment
    most : int
        Number of small segments that are left alone. A small one has fewer than half of the rows of a full one.
    keep_results : bool
        Whether ``results/`` keeps the files of the merged segments. A person who reads that folder while it changes
        would see rows twice, which must not happen on a day that only adds photos.
    """
    small = [segment for segment in live if segment["images"] < segments.ROWS_PER_SEGMENT // 2]
    groups = [group for group in _groups(small) if len(group) > 1] if len(small) > most else []
    if not groups:
        return list(live), {}

    def work(item: tuple[int, list[Segment]]) -> Segment:
        number, group = item
        names = [name for segment in group for name in segment["results"]] if keep_results else None
        sources = [segments.source(target.folder, segment) for segment in group]
        merged = segments.write(target, number, sources, None, names)
        assert merged is not None, "a segment has at least one row"
        return merged

    logger.info("merging %d small segments into %d", sum(map(len, groups)), len(groups))
    merged = workers.run(sc, list(enumerate(groups, start)), work)
    replaced = {segment["id"] for group in groups for segment in group}
    sources = {new["id"]: [each["id"] for each in group] for new, group in zip(merged, groups, strict=True)}
    return [*(segment for segment in live if segment["id"] not in replaced), *merged], sources


def trace(published: Sequence[Segment], steps: Sequence[Sources], live: Sequence[Segment]) -> Sources:
    """Return the published segments whose rows each live segment has, in their order.

    Parameters
    ----------
    published : sequence of Segment
    steps : sequence of dict
        The sources of the segments that each step has written, the first step first.
    live : sequence of Segment
    """
    known: Sources = {segment["id"]: [segment["id"]] for segment in published}
    for step in steps:
        known |= {new: [old for id_ in ids for old in known.get(id_, [])] for new, ids in step.items()}
    return {segment["id"]: known.get(segment["id"], []) for segment in live}


def _groups(small: Sequence[Segment]) -> list[list[Segment]]:
    """Divide segments into consecutive groups of at most the rows of a full segment."""
    groups: list[list[Segment]] = []
    images = segments.ROWS_PER_SEGMENT
    for segment in small:
        if images + segment["images"] > segments.ROWS_PER_SEGMENT:
            groups.append([])
            images = 0
        groups[-1].append(segment)
        images += segment["images"]
    return groups
