"""Verification: the outputs of a run are compared with its listing, its parameters and the jobs' summaries.

It reads summaries, the fitted PCA and the footers of new Parquet files, never features, scores or the CSV, so it takes
seconds for a run of any size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

from include.lake.layout import Lake, RunLocations
from include.lake.objects import LakePath, parquet_files, read_json
from include.records import FoundChanges, Verified
from include.settings.parameters import RunParams
from spark_jobs.args import ERASED, FEATURE_DIMENSIONS, KEEP_BASIS, PCA_MODEL_FILE
from spark_jobs.fingerprint import differences
from spark_jobs.records import FeaturizeSummary, Fingerprint, LiveSegments, PcaSummary, Segment

PUBLISHED_COLUMNS = ("path", "label", "features")
"""The columns of the notebook's results."""

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
    statistics; pca does, since it reads every vector."""

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


def verify_run(
    lake: Lake, slug: str, found: FoundChanges, params: RunParams, jobs: str, aws_conn_id: str | None
) -> Verified:
    """Check the outputs of a run; return its figures.

    Parameters
    ----------
    lake : Lake
        The lake.
    slug : str
        The run.
    found : FoundChanges
        What ``find_changes`` returned.
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
    run = lake.run(slug)
    planned = _read_summary(run.changes, "find_changes", aws_conn_id)["fingerprint"]
    featurize: FeaturizeSummary = _read_summary(run.featurize_summary, "featurize", aws_conn_id)
    pca: PcaSummary = _read_summary(run.pca_summary, "pca", aws_conn_id)
    problems = _collect(
        partial(_code_problems, (featurize, pca), jobs),
        partial(_changes_problems, run, found, featurize, aws_conn_id),
        partial(_fingerprint_problems, planned, featurize),
        partial(_segments_problems, lake, run, planned, featurize, aws_conn_id),
        partial(_rejects_problems, run, featurize, params, aws_conn_id),
        partial(_pca_problems, featurize, pca, params),
        partial(_basis_problems, run, featurize, pca, params, aws_conn_id),
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


def _changes_problems(
    run: RunLocations, found: FoundChanges, featurize: FeaturizeSummary, aws_conn_id: str | None
) -> list[str]:
    listed = read_footers([LakePath(run.listing, aws_conn_id)]).rows
    return [
        *_expect("rows of the listing", listed, found["listed"]),
        *_expect("images listed by featurize", featurize["listed"], listed),
        *_expect("images computed by featurize", featurize["featurized"], found["work"]),
        *_expect("features + rejects", featurize["features"] + featurize["rejects"], listed),
    ]


def _fingerprint_problems(planned: Fingerprint, featurize: FeaturizeSummary) -> list[str]:
    actual = featurize["fingerprint"]
    if actual["digest"] == planned["digest"]:
        return []
    advice = "install requirements-cluster.txt on the nodes (`make wheels`, `make publish`)"
    return [f"the features depend on other versions than planned ({differences(planned, actual)}): {advice}"]


def _segments_problems(
    lake: Lake, run: RunLocations, planned: Fingerprint, featurize: FeaturizeSummary, aws_conn_id: str | None
) -> list[str]:
    """Check the segments: their sums, and the footers of those that this run has written."""
    segments = read_segments(run, aws_conn_id)
    ids = [segment["id"] for segment in segments]
    slug = run.root.rpartition("/")[2]
    new = [segment for segment in segments if segment["id"].startswith(f"{slug}-")]
    problems = [
        *_expect("segments with the planned fingerprint", _count(segments, planned["digest"]), len(segments)),
        *_expect("different segments", len(set(ids)), len(ids)),
        *_expect("features of the segments", sum(each["features"] for each in segments), featurize["features"]),
        *_expect("rejects of the segments", sum(each["rejects"] for each in segments), featurize["rejects"]),
        *_expect("dimensions of features", featurize["dimensions"], FEATURE_DIMENSIONS),
    ]
    for segment in new:
        if segment["features"]:
            problems += _features_problems(lake, segment, aws_conn_id)
    return problems


def _count(segments: list[Segment], fingerprint: str) -> int:
    return sum(segment["fingerprint"] == fingerprint for segment in segments)


def read_segments(run: RunLocations, aws_conn_id: str | None) -> list[Segment]:
    """Return the segments of a run's state.

    Raises
    ------
    VerificationError
        If the file is missing or damaged.
    """
    live: LiveSegments = _read_summary(run.live_segments, "featurize", aws_conn_id)
    return live["segments"]


def _features_problems(lake: Lake, segment: Segment, aws_conn_id: str | None) -> list[str]:
    file = LakePath(lake.features(segment["id"]), aws_conn_id)
    footer, name = read_footers([file]), f"features of {segment['id']}"
    return [
        *_expect(f"columns of {name}", footer.columns, PUBLISHED_COLUMNS),
        *_expect(f"rows of {name}", footer.rows, segment["features"]),
        *_expect(f"values of {name}", footer.values.get("features", 0), footer.rows * FEATURE_DIMENSIONS),
        *_expect(f"nulls in {name}", footer.nulls, 0),
        *_expect(f"{name} are finite", footer.is_finite("features"), True),
        *_expect(f"bytes of {name}", file.size(), segment["bytes"]),
    ]


def _rejects_problems(
    run: RunLocations, featurize: FeaturizeSummary, params: RunParams, aws_conn_id: str | None
) -> list[str]:
    footer = read_footers(parquet_files(LakePath(run.rejects, aws_conn_id)))
    problems = _expect("rows of rejects", footer.rows, featurize["rejects"])
    # Exact, as in featurize: in floating point, 0.29 * 100 is less than 29.
    rejects = featurize["rejects"] - featurize["rejects_by_reason"].get(ERASED, 0)
    if rejects > Fraction(str(params.max_reject_ratio)) * featurize["listed"]:
        problems.append(f"rejects: {rejects} of {featurize['listed']}, expected at most {params.max_reject_ratio:.2%}")
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
    basis = pca.get("basis")
    is_kept, why = (basis["kept"], basis["why_fitted"]) if basis else (False, None)
    # Warnings about drift and the basis do not explain a target that was missed.
    warnings = {each for each in pca["warnings"] if not (why and why in each)} - set(pca["drift"]["warnings"])
    if not math.isfinite(reached) or not 0 <= reached <= 1 + ROUNDING:
        problems.append(f"variance reached: found {reached}, expected 0 to 1")
    elif target is not None and reached < target - ROUNDING and not warnings and not is_kept:
        problems.append(f"variance reached: found {reached}, expected {target} or a warning")
    return problems


def _basis_problems(
    run: RunLocations, featurize: FeaturizeSummary, pca: PcaSummary, params: RunParams, aws_conn_id: str | None
) -> list[str]:
    """Check the components: they are the run's own, or byte for byte the published ones, if these are to be kept."""
    basis = pca.get("basis")
    if basis is None:
        return ["the summary of pca has no basis: expected one, as its code writes it"]
    problems = _expect("digest of the components", _digest(run.pca_model, aws_conn_id), basis["digest"])
    if not basis["kept"]:
        problems += [
            *_expect("run that fitted the components", basis["since"], run.root.rpartition("/")[2]),
            *_expect("images whose scores were copied", basis["copied"], 0),
        ]
        if params.basis == KEEP_BASIS and not basis["why_fitted"]:
            problems.append(f"the components were fitted again without a reason, although basis is {KEEP_BASIS}")
        return problems
    published = _read_summary(run.changes, "find_changes", aws_conn_id).get("published")
    digest = _digest(f"{published}/{PCA_MODEL_FILE}", aws_conn_id) if published else None
    projected = pca["images"] - basis["copied"]
    problems += [
        *_expect("basis", KEEP_BASIS, params.basis),
        *_expect("digest of the kept components", basis["digest"], digest),
    ]
    if not 0 <= projected <= featurize["featurized"]:
        problems.append(
            f"images whose scores were projected: found {projected}, expected at most those that were computed, "
            f"{featurize['featurized']}"
        )
    return problems


def _digest(uri: str, aws_conn_id: str | None) -> str:
    try:
        return hashlib.sha256(LakePath(uri, aws_conn_id).read_bytes()).hexdigest()
    except FileNotFoundError:
        raise VerificationError(f"{uri} does not exist") from None


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
    """Check the size of the CSV. The job has compared its values with the scores; here they would be too many."""
    size = LakePath(run.csv, aws_conn_id).size()
    return [
        *_expect("bytes of the CSV", size, pca["csv"]["bytes"]),
        *_expect("rows of the CSV", pca["csv"]["rows"], pca["images"]),
        *_expect("columns of the CSV", pca["csv"]["columns"], pca["k"] + 1),
    ]
