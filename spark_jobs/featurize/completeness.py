"""Whether what featurize has written is all that was listed, and what the rejects are."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

import pyarrow.parquet as pq
from pyarrow import fs

from spark_jobs.args import LISTING_FILE, REJECTS_FOLDER, FeaturizeArgs
from spark_jobs.errors import JobError
from spark_jobs.featurize.staging import KINDS
from spark_jobs.lake import storage

EXAMPLES = 20
"""Rejects that the summary and the error message of a failed run show."""


def check(run: str, listed: int) -> dict[str, int]:
    """Count the rows that were written, from the Parquet footers, and hold them against the listing.

    Returns
    -------
    dict of str to int
        Rows of ``features`` and of ``rejects``.

    Raises
    ------
    JobError
        When they do not add up to the number of listed images; the message has the first path that differs.
    """
    counts = {kind: count_rows(storage.join(run, kind)) for kind in KINDS}
    if sum(counts.values()) != listed:
        figures = " + ".join(f"{count} {kind}" for kind, count in counts.items())
        raise JobError(
            f"{listed} images were listed, but {figures} = {sum(counts.values())} rows were written to {run}: "
            f"{_first_difference(run)}. Run the job again; if it comes back, keep the folder and report it"
        )
    return counts


def count_rows(folder: str) -> int:
    """Return the rows of a Parquet dataset, from its files' footers."""
    filesystem, paths = _parquet_files(folder)
    return sum(pq.read_metadata(path, filesystem=filesystem).num_rows for path in paths)


def _first_difference(run: str) -> str:
    written = heapq.merge(*(_read_paths(*_parquet_files(storage.join(run, kind))) for kind in KINDS))
    filesystem, path = storage.locate(storage.join(run, LISTING_FILE))
    for expected, found in itertools.zip_longest(_read_paths(filesystem, [path]), written):
        if found is None or (expected is not None and expected < found):
            return f"{expected} is missing"
        if expected != found:
            return f"{found} was not listed, or is there twice"
    return "the paths are the same"


def _read_paths(filesystem: fs.FileSystem, files: Sequence[str]) -> Iterator[str]:
    for name in files:
        with pq.ParquetFile(name, filesystem=filesystem) as file:
            for batch in file.iter_batches(columns=["path"], use_threads=False):
                yield from batch.column(0).to_pylist()


def _parquet_files(folder: str) -> tuple[fs.FileSystem, list[str]]:
    filesystem, path = storage.locate(folder)
    found = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return filesystem, sorted(info.path for info in found if info.base_name.endswith(".parquet"))


def read_rejects(run: str) -> tuple[dict[str, int], list[dict[str, str]]]:
    """Return how many rejects there are of each reason, the most frequent first, and the first few of them.

    Returns
    -------
    reasons : dict of str to int
    examples : list of dict
        With ``path``, ``reason`` and ``detail``.
    """
    filesystem, files = _parquet_files(storage.join(run, REJECTS_FOLDER))
    reasons: Counter[str] = Counter()
    examples: list[dict[str, str]] = []
    for name in files:
        with pq.ParquetFile(name, filesystem=filesystem) as file:
            for batch in file.iter_batches(columns=["path", "reason", "detail"], use_threads=False):
                reasons.update(batch.column("reason").to_pylist())
                examples += batch.slice(0, EXAMPLES - len(examples)).to_pylist()
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))), examples


def check_reject_ratio(
    args: FeaturizeArgs, listed: int, reasons: dict[str, int], examples: Sequence[dict[str, str]]
) -> None:
    """Fail when the rejects are more than the allowed share of the listed images.

    The comparison is exact: 7 rejects of 100 are not more than 0.07, though 0.07 * 100 in floating point is not 7.

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
        f"All of them are in {storage.join(args.run, REJECTS_FOLDER)}"
    )
