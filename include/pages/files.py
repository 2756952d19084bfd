"""Files of a run as downloads: as they are in the lake, and the rejects of its segments as one CSV.

Their locations are made of the lake's root, a run's slug and fixed names. No location comes from a request or from a
file of the lake.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import cast

from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json
from spark_jobs.args import REJECTS_FILE
from spark_jobs.records import LiveSegments

BLOCK_BYTES = 8 * 2**20
"""Bytes per read, which on S3 is one request."""

SEGMENT_ID = re.compile(r"[0-9A-Za-z][\w.-]*")

REJECT_COLUMNS = ("path", "label", "reason", "detail")


def read_blocks(path: LakePath) -> Iterator[bytes]:
    """Yield the bytes of a file; few of them are in memory."""
    with path.open() as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block


def reject_files(lake: Lake, slug: str, aws_conn_id: str | None) -> list[LakePath]:
    """Return the files of rejects of all segments of a run's state.

    Raises
    ------
    FileNotFoundError
        If the run has no list of segments: featurize has not completed, or the list was deleted as garbage.
    ValueError
        If the list is damaged.
    """
    path = LakePath(lake.run(slug).live_segments, aws_conn_id)
    segments = cast("LiveSegments", read_json(path, "featurize writes it"))["segments"]
    if wrong := [segment["id"] for segment in segments if not SEGMENT_ID.fullmatch(segment["id"])]:
        raise ValueError(f"{path} names the segment {wrong[0]!r}, which is no name of a folder")
    return [
        LakePath(f"{lake.segments}/{segment['id']}/{REJECTS_FILE}", aws_conn_id)
        for segment in segments
        if segment["rejects"]
    ]


def rejects_as_csv(files: list[LakePath]) -> Iterator[bytes]:
    """Yield the rejects as CSV in UTF-8, with a header."""
    import pyarrow.parquet as pq

    yield _lines([REJECT_COLUMNS])
    for file in files:
        with file.open() as stream, pq.ParquetFile(stream) as parquet:
            for batch in parquet.iter_batches(columns=list(REJECT_COLUMNS)):
                columns = [batch.column(name).to_pylist() for name in REJECT_COLUMNS]
                yield _lines(zip(*columns, strict=True))


def _lines(rows: object) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode()
