"""Checks of the outputs of featurize: every listed image has a row, and the share of rejects is within the limit."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

import pyarrow.parquet as pq

from spark_jobs.args import ERASED, LISTING_FILE, REJECTS_FOLDER, FeaturizeArgs
from spark_jobs.errors import JobError
from spark_jobs.featurize import segments
from spark_jobs.lake import schemas, storage
from spark_jobs.records import LiveSegments, RejectedFile

EXAMPLES = 20
"""Number of rejects that the summary lists."""


def check(run: str, live: LiveSegments, listed: int) -> None:
    """Compare the number of rows in the segments of a run with the listing.

    Raises
    ------
    JobError
        If they differ; the message has the first path that differs.
    """
    features, rejects = (sum(segment[kind] for segment in live["segments"]) for kind in ("features", "rejects"))
    if features + rejects != listed:
        raise JobError(
            f"{listed} images were listed, but {features} features + {rejects} rejects = {features + rejects} rows are "
            f"in the segments of {run}: {_first_difference(run, live)}. Run the job again; if the error returns, set "
            "full_run and report it"
        )


def _first_difference(run: str, live: LiveSegments) -> str:
    sources = [segments.source(live["folder"], segment) for segment in live["segments"]]
    written = heapq.merge(
        *(sorted(_read_paths(uri)) for source in sources for uri in (*source.features, *source.rejects))
    )
    for expected, written_path in itertools.zip_longest(_read_paths(storage.join(run, LISTING_FILE)), written):
        if written_path is None or (expected is not None and expected < written_path):
            return f"{expected} is missing"
        if expected != written_path:
            return f"{written_path} was not listed, or was written twice"
    return "the paths are the same"


def _read_paths(uri: str) -> Iterator[str]:
    with storage.open_file(uri) as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(columns=["path"], use_threads=False):
            yield from batch.column(0).to_pylist()


def read_rejects(run: str) -> tuple[dict[str, int], list[RejectedFile]]:
    """Return the number of rejects by reason, the most frequent first, and the first :data:`EXAMPLES` of them.

    Returns
    -------
    reasons : dict of str to int
    examples : list of RejectedFile
    """
    reasons: Counter[str] = Counter()
    examples: list[RejectedFile] = []
    uri = storage.join(run, REJECTS_FOLDER, schemas.FILE_NAME.format(0))
    with storage.open_file(uri) as stream, pq.ParquetFile(stream) as file:
        for batch in file.iter_batches(columns=["path", "reason", "detail"], use_threads=False):
            reasons.update(batch.column("reason").to_pylist())
            examples += batch.slice(0, EXAMPLES - len(examples)).to_pylist()
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))), examples


def check_reject_ratio(
    args: FeaturizeArgs, listed: int, reasons: dict[str, int], examples: Sequence[RejectedFile]
) -> None:
    """Raise if the share of rejects in the listed images is above the limit.

    Rejects that the denylist makes do not count. The comparison is exact: 7 rejects in 100 images do not exceed 0.07,
    although 0.07 * 100 in floating point is not 7.

    Raises
    ------
    JobError
        With the counts, the reasons and the first rejects.
    """
    rejects = sum(reasons.values()) - reasons.get(ERASED, 0)
    if Fraction(rejects, listed) <= Fraction(str(args.max_reject_ratio)):
        return
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    first = "; ".join(f"{reject['path']}: {reject['reason']} ({reject['detail']})" for reject in examples[:5])
    raise JobError(
        f"{rejects} of {listed} images ({100 * rejects / listed:.1f} %) are rejects, more than the "
        f"{args.max_reject_ratio:g} that --max-reject-ratio allows: {counted}. First: {first}. "
        f"The full list is in {storage.join(args.run, REJECTS_FOLDER)}"
    )
