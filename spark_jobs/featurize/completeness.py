"""Checks of the outputs of featurize: every listed image has a row, and the share of rejects is within the limit."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

import pyarrow.parquet as pq

from spark_jobs.args import LISTING_FILE, REJECTS_FOLDER, FeaturizeArgs
from spark_jobs.errors import JobError
from spark_jobs.featurize.staging import KINDS
from spark_jobs.lake import storage
from spark_jobs.records import RejectedFile

EXAMPLES = 20
"""Number of rejects that the summary lists."""


def check(run: str, listed: int) -> dict[str, int]:
    """Count the written rows from the Parquet footers and compare their number with the listing.

    Returns
    -------
    dict of str to int
        Rows of ``features`` and of ``rejects``.

    Raises
    ------
    JobError
        If they do not add up to the number of listed images; the message has the first path that differs.
    """
    counts = {kind: count_rows(storage.join(run, kind)) for kind in KINDS}
    if sum(counts.values()) != listed:
        figures = " + ".join(f"{count} {kind}" for kind, count in counts.items())
        raise JobError(
            f"{listed} images were listed, but {figures} = {sum(counts.values())} rows were written to {run}: "
            f"{_first_difference(run)}. Run the job again; if the error returns, keep the folder and report it"
        )
    return counts


def count_rows(folder: str) -> int:
    """Return the number of rows of a Parquet dataset, from its files' footers."""
    rows = 0
    for uri in _parquet_files(folder):
        with storage.open_file(uri) as stream:
            rows += pq.read_metadata(stream).num_rows
    return rows


def _first_difference(run: str) -> str:
    written = heapq.merge(*(_read_paths(_parquet_files(storage.join(run, kind))) for kind in KINDS))
    for expected, written_path in itertools.zip_longest(_read_paths([storage.join(run, LISTING_FILE)]), written):
        if written_path is None or (expected is not None and expected < written_path):
            return f"{expected} is missing"
        if expected != written_path:
            return f"{written_path} was not listed, or was written twice"
    return "the paths are the same"


def _read_paths(files: Sequence[str]) -> Iterator[str]:
    for uri in files:
        with storage.open_file(uri) as stream, pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(columns=["path"], use_threads=False):
                yield from batch.column(0).to_pylist()


def _parquet_files(folder: str) -> list[str]:
    return [storage.join(folder, name) for name in storage.names(folder) if name.endswith(".parquet")]


def read_rejects(run: str) -> tuple[dict[str, int], list[RejectedFile]]:
    """Return the number of rejects by reason, the most frequent first, and the first :data:`EXAMPLES` of them.

    Returns
    -------
    reasons : dict of str to int
    examples : list of RejectedFile
    """
    reasons: Counter[str] = Counter()
    examples: list[RejectedFile] = []
    for uri in _parquet_files(storage.join(run, REJECTS_FOLDER)):
        with storage.open_file(uri) as stream, pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(columns=["path", "reason", "detail"], use_threads=False):
                reasons.update(batch.column("reason").to_pylist())
                examples += batch.slice(0, EXAMPLES - len(examples)).to_pylist()
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))), examples


def check_reject_ratio(
    args: FeaturizeArgs, listed: int, reasons: dict[str, int], examples: Sequence[RejectedFile]
) -> None:
    """Raise if the share of rejects in the listed images is above the limit.

    The comparison is exact: 7 rejects in 100 images do not exceed 0.07, although 0.07 * 100 in floating point is not 7.

    Raises
    ------
    JobError
        With the counts, the reasons and the first rejects.
    """
    rejects = sum(reasons.values())
    if Fraction(rejects, listed) <= Fraction(str(args.max_reject_ratio)):
        return
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    first = "; ".join(f"{reject['path']}: {reject['reason']} ({reject['detail']})" for reject in examples[:5])
    raise JobError(
        f"{rejects} of {listed} images ({100 * rejects / listed:.1f} %) are rejects, more than the "
        f"{args.max_reject_ratio:g} that --max-reject-ratio allows: {counted}. First: {first}. "
        f"The full list is in {storage.join(args.run, REJECTS_FOLDER)}"
    )
