"""Sorting of more records than fit into memory, with temporary files.

Standard library only, as the walk that uses it (:mod:`spark_jobs.walk`).
"""

from __future__ import annotations

import heapq
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any, Generic, TypeVar

Record = TypeVar("Record", bound=tuple[Any, ...])

RECORDS_IN_MEMORY = 100_000
"""Number of records that are sorted in memory; a record of a listing takes 350 bytes."""

MOST_RUNS = 64
"""Number of sorted files that are merged at a time: each is open, and has a batch in memory."""

BATCH = 1_000
"""Number of records that are read from a file at a time."""


def sort_records(records: Iterable[Record]) -> Iterator[Record]:
    """Yield records in ascending order, in memory that does not depend on their number.

    Fewer than :data:`RECORDS_IN_MEMORY` records are sorted without a file. More are written to temporary files of this
    machine, which have no name: nothing is left of them when the iterator ends or is closed, or the process is killed.

    Parameters
    ----------
    records : iterable of tuple
        Tuples that can be compared and pickled.
    """
    remaining = iter(records)
    with ExitStack() as files:
        runs: list[_Run[Record]] = []
        while chunk := list(islice(remaining, RECORDS_IN_MEMORY)):
            chunk.sort()
            if not runs and len(chunk) < RECORDS_IN_MEMORY:
                yield from chunk
                return
            # Records that come in order, or nearly so, make few runs.
            run = next((run for run in runs if run.last <= chunk[0]), None)
            if run is None:
                runs = [_merge(runs, files)] if len(runs) == MOST_RUNS else runs
                run = _Run(files)
                runs.append(run)
            run.append(chunk)
            chunk.clear()
        yield from heapq.merge(*(run.read() for run in runs))


class _Run(Generic[Record]):
    """Sorted records in a temporary file, which the stack closes."""

    last: Record

    def __init__(self, files: ExitStack) -> None:
        self._file = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (the stack closes it)

    def append(self, records: list[Record]) -> None:
        """Append sorted records, which are not less than the last one."""
        for begin in range(0, len(records), BATCH):
            pickle.dump(records[begin : begin + BATCH], self._file, pickle.HIGHEST_PROTOCOL)
        self.last = records[-1]

    def read(self) -> Iterator[Record]:
        """Yield all records, a batch at a time in memory."""
        end = self._file.tell()
        self._file.seek(0)
        while self._file.tell() < end:
            yield from pickle.load(self._file)

    def close(self) -> None:
        self._file.close()


def _merge(runs: list[_Run[Record]], files: ExitStack) -> _Run[Record]:
    """Return one run with the records of several, and close these."""
    merged: _Run[Record] = _Run(files)
    records = heapq.merge(*(run.read() for run in runs))
    while batch := list(islice(records, BATCH)):
        merged.append(batch)
    for run in runs:
        run.close()
    return merged
