"""Verification: the outputs of a run are compared with its listing, its parameters and the jobs' summaries.

It reads Parquet footers, the summaries, the CSV and the labels of the scores, never the features, so it takes seconds
for a run of any size.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, cast

from include.lake.layout import RunLocations
from include.lake.objects import LakePath, parquet_files, read_json
from include.records import Verified
from include.settings.parameters import RunParams
from spark_jobs.args import FEATURE_DIMENSIONS
from spark_jobs.records import FeaturizeSummary, PcaSummary

_NOT_FINITE = frozenset({"", "nan", "inf", "-inf"})
"""What Python writes into a CSV for a missing or non-finite number."""

CSV_BYTES = 8 * 1024 * 1024
"""Bytes of the CSV to request at a time."""

ROUNDING = 1e-12
"""Tolerance for the rounding error of a sum of 1280 shares; larger than the tolerance with which pca chooses k."""


class VerificationError(RuntimeError):
    """The outputs of a run differ from its listing, its parameters or the jobs' summaries; nothing is published."""


@dataclass(frozen=True)
class Footer:
    """The content of the footers of a dataset's files, added up."""

    rows: int
    columns: tuple[str, ...]
    values: dict[str, int]
    """Number of values per column; for a list column, the number of its elements."""
    nulls: int
    """Number of nulls in all columns."""
    bounds: dict[str, list[float]]
    """Minimum and maximum per column, for every row group. They do not reveal NaN, since pyarrow ignores NaN in
    statistics; the CSV does, since a NaN in the features of an image makes all of its scores NaN."""

    def is_finite(self, column: str) -> bool:
        """Whether the minima and maxima of a column are finite."""
        return all(math.isfinite(bound) for bound in self.bounds.get(column, []))


def read_footers(files: list[LakePath]) -> Footer:
    """Read the footers of a dataset's files.

    Raises
    ------
    VerificationError
        If a file is missing, damaged or without statistics, or if two files differ in columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    footer = Footer(0, (), {}, 0, {})
    for file in files:
        try:
            with file.open() as stream:
                metadata = pq.read_metadata(stream)
        except FileNotFoundError:
            raise VerificationError(f"{file} does not exist") from None
        except pa.ArrowInvalid as error:
            raise VerificationError(f"{file} is not a Parquet file: {error}") from None
        columns = tuple(metadata.schema.to_arrow_schema().names)
        if footer.columns and columns != footer.columns:
            raise VerificationError(f"{file} has the columns {columns}, other files of its folder {footer.columns}")
        footer = replace(footer, rows=footer.rows + metadata.num_rows, columns=columns)
        for group in range(metadata.num_row_groups):
            for index in range(metadata.num_columns):
                footer = _with_chunk(footer, metadata.row_group(group).column(index), f"{file}")
    return footer


def _with_chunk(footer: Footer, chunk: Any, file: str) -> Footer:
    name, statistics = chunk.path_in_schema.split(".")[0], chunk.statistics
    if statistics is None or not statistics.has_null_count:
        raise VerificationError(f"{file} has no statistics of the column {name!r}; the jobs always write them")
    values = footer.values | {name: footer.values.get(name, 0) + chunk.num_values}
    bounds = footer.bounds
    if chunk.physical_type in {"FLOAT", "DOUBLE"}:
        if not statistics.has_min_max:
            raise VerificationError(f"{file} has no minimum of the column {name!r}; the jobs always write it")
        bounds = bounds | {name: [*bounds.get(name, []), statistics.min, statistics.max]}
    return replace(footer, values=values, nulls=footer.nulls + statistics.null_count, bounds=bounds)


def verify_run(run: RunLocations, params: RunParams, jobs: str, aws_conn_id: str | None) -> Verified:
    """Check the outputs of a run; return its figures.

    Parameters
    ----------
    run : RunLocations
        The run.
    params : RunParams
        Its parameters.
    jobs : str
        Digest of the jobs' sources that the run planned to use.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Raises
    ------
    VerificationError
        With every failed check and its figures, or if the summary of a job is missing.
    """
    featurize: FeaturizeSummary = _read_summary(run.featurize_summary, "featurize", aws_conn_id)
    pca: PcaSummary = _read_summary(run.pca_summary, "pca", aws_conn_id)
    problems = _collect(
        partial(_code_problems, (featurize, pca), jobs),
        partial(_listing_problems, run, featurize, aws_conn_id),
        partial(_features_problems, run, featurize, aws_conn_id),
        partial(_rejects_problems, run, featurize, params, aws_conn_id),
        partial(_pca_problems, featurize, pca, params),
        partial(_scores_problems, run, pca, aws_conn_id),
        partial(_csv_problems, run, pca, aws_conn_id),
    )
    if problems:
        raise VerificationError(f"{run.root}: " + "; ".join(problems))
    return {
        "images": featurize["features"],
        "rejects": featurize["rejects"],
        "k": pca["k"],
        "variance_reached": pca["variance_reached"],
        "warnings": [*featurize["warnings"], *pca["warnings"]],
    }


def _read_summary(uri: str, job: str, aws_conn_id: str | None) -> Any:
    try:
        return read_json(LakePath(uri, aws_conn_id), f"{job} writes it when it has completed")
    except (FileNotFoundError, ValueError) as error:
        raise VerificationError(str(error)) from error


def _collect(*checks: Callable[[], list[str]]) -> list[str]:
    """Return the problems that all checks find; an unreadable file is one problem and does not hide the others."""
    problems = []
    for check in checks:
        try:
            problems += check()
        except VerificationError as error:
            problems.append(str(error))
    return problems


def _expect(name: str, found: object, expected: object) -> list[str]:
    return [] if found == expected else [f"{name}: found {found}, expected {expected}"]


def _code_problems(summaries: tuple[FeaturizeSummary | PcaSummary, ...], jobs: str) -> list[str]:
    return [
        f"{summary['job']} ran other code ({summary.get('code', 'unknown')[:16]}) than the plan names ({jobs[:16]}): "
        "clear plan_cluster with its downstream tasks"
        for summary in summaries
        if summary.get("code") != jobs  # an earlier version of the jobs reports no code
    ]


def _listing_problems(run: RunLocations, featurize: FeaturizeSummary, aws_conn_id: str | None) -> list[str]:
    listed = read_footers([LakePath(run.listing, aws_conn_id)]).rows
    return [
        *_expect("rows of the listing", listed, featurize["listed"]),
        *_expect("features + rejects", featurize["features"] + featurize["rejects"], listed),
    ]


def _features_problems(run: RunLocations, featurize: FeaturizeSummary, aws_conn_id: str | None) -> list[str]:
    listing = read_footers([LakePath(run.listing, aws_conn_id)])
    footer = read_footers(parquet_files(LakePath(run.features, aws_conn_id)))
    return [
        *_expect("columns of features", footer.columns, (*listing.columns, "features")),
        *_expect("rows of features", footer.rows, featurize["features"]),
        *_expect("dimensions of features", featurize["dimensions"], FEATURE_DIMENSIONS),
        *_expect("values of features", footer.values.get("features", 0), footer.rows * FEATURE_DIMENSIONS),
        *_expect("nulls in features", footer.nulls, 0),
        *_expect("features are finite", footer.is_finite("features"), True),
    ]


def _rejects_problems(
    run: RunLocations, featurize: FeaturizeSummary, params: RunParams, aws_conn_id: str | None
) -> list[str]:
    footer = read_footers(parquet_files(LakePath(run.rejects, aws_conn_id)))
    problems = _expect("rows of rejects", footer.rows, featurize["rejects"])
    # Exact, as in featurize: in floating point, 0.29 * 100 is less than 29.
    if featurize["rejects"] > Fraction(str(params.max_reject_ratio)) * featurize["listed"]:
        problems.append(
            f"rejects: {featurize['rejects']} of {featurize['listed']}, expected at most {params.max_reject_ratio:.2%}"
        )
    return problems


def _pca_problems(featurize: FeaturizeSummary, pca: PcaSummary, params: RunParams) -> list[str]:
    target, reached = params.variance_target, pca["variance_reached"]
    problems = [
        *_expect("images of pca", pca["images"], featurize["features"]),
        *_expect("variance target of pca", pca["variance_target"], target),
        *_expect("number of components requested from pca", pca["n_components"], params.n_components),
        *_expect("scores of pca", pca["scores"], params.scores),
    ]
    most = params.n_components or FEATURE_DIMENSIONS
    least = most if target is None else 1
    if not least <= pca["k"] <= most:
        problems.append(f"k: found {pca['k']}, expected " + (f"{most}" if least == most else f"{least} to {most}"))
    # A warning about drift does not explain a target that was missed.
    warnings = set(pca["warnings"]) - set(pca["drift"]["warnings"])
    if not math.isfinite(reached) or not 0 <= reached <= 1 + ROUNDING:
        problems.append(f"variance reached: found {reached}, expected 0 to 1")
    elif target is not None and reached < target - ROUNDING and not warnings:
        problems.append(f"variance reached: found {reached}, expected {target} or a warning")
    return problems


def _scores_problems(run: RunLocations, pca: PcaSummary, aws_conn_id: str | None) -> list[str]:
    footer = read_footers(parquet_files(LakePath(run.scores, aws_conn_id)))
    return [
        *_expect("columns of scores", footer.columns, ("path", "label", "components")),
        *_expect("rows of scores", footer.rows, pca["images"]),
        *_expect("values of scores", footer.values.get("components", 0), footer.rows * pca["k"]),
        *_expect("nulls in scores", footer.nulls, 0),
        *_expect("scores are finite", footer.is_finite("components"), True),
    ]


def _csv_problems(run: RunLocations, pca: PcaSummary, aws_conn_id: str | None) -> list[str]:
    expected = [*(f"F {number}" for number in range(1, pca["k"] + 1)), "label"]
    path, rows, invalid, other = LakePath(run.csv, aws_conn_id), 0, _Rows(), _Rows()
    labels = _score_labels(run, aws_conn_id)
    try:
        with io.BufferedReader(cast(io.RawIOBase, path.open()), CSV_BYTES) as stream:
            lines = csv.reader(io.TextIOWrapper(stream, encoding="utf-8", newline=""))
            header = next(lines, [])
            for line in lines:
                rows += 1
                label = next(labels, None)
                if len(line) != len(expected) or not _NOT_FINITE.isdisjoint(line[:-1]):
                    invalid.add(f"row {rows}, near the label {label!r}")
                elif label is not None and line[-1] != label:
                    other.add(f"row {rows}, found {line[-1]!r}, expected {label!r}")
    except FileNotFoundError:
        raise VerificationError(f"{path} does not exist") from None
    return [
        *_expect("columns of the CSV", header, expected),
        *_expect("rows of the CSV", rows, pca["images"]),
        *invalid.problems("rows of the CSV that are not k finite numbers and a label"),
        *other.problems("rows of the CSV whose label is not that of the scores"),
    ]


@dataclass
class _Rows:
    """Rows with a problem: their number, and the first one."""

    count: int = 0
    first: str = ""

    def add(self, row: str) -> None:
        self.first = self.first or row
        self.count += 1

    def problems(self, name: str) -> list[str]:
        return [f"{name}: found {self.count}, expected 0; the first is {self.first}"] if self.count else []


def _score_labels(run: RunLocations, aws_conn_id: str | None) -> Iterator[str]:
    """Yield the label of each row of the scores, in the order of the CSV."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in parquet_files(LakePath(run.scores, aws_conn_id)):
        with suppress(FileNotFoundError, pa.ArrowInvalid), file.open() as stream:
            for batch in pq.ParquetFile(stream).iter_batches(columns=["label"]):
                if "label" in batch.schema.names:
                    yield from batch.column("label").to_pylist()
