"""Whether a run's outputs are whole: what the jobs wrote against what they listed.

Only Parquet footers, summaries and the lines of the CSV are read, never the features: it costs seconds at any size.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from typing import Any

from airflow.sdk import ObjectStoragePath

from include.locations import RunLocations
from include.objects import at, data_files, read_json
from include.settings import RunParams
from spark_jobs.args import FEATURE_DIMENSIONS


class VerificationError(RuntimeError):
    """A run's outputs are not what its jobs say, or not what the run asked for; nothing is published."""


@dataclass(frozen=True)
class Footer:
    """What the footers of a dataset's files say."""

    rows: int
    columns: tuple[str, ...]
    values: dict[str, int]
    """Number of values by column; for a list column, of its elements."""
    nulls: int
    """Number of nulls in all columns."""
    bounds: dict[str, list[float]]
    """Least and largest numbers by column, of every row group. Spark takes NaN for the largest of all."""

    def is_finite(self, column: str) -> bool:
        """Tell whether a column of numbers has neither NaN nor infinity."""
        return all(math.isfinite(bound) for bound in self.bounds.get(column, []))


def read_footers(files: list[ObjectStoragePath]) -> Footer:
    """Read the footers of a dataset's files.

    Raises
    ------
    VerificationError
        When there is no file, or two of them differ in columns.
    """
    import pyarrow.parquet as pq

    footer = Footer(0, (), {}, 0, {})
    for file in files:
        with file.open("rb") as stream:  # type: ignore[no-untyped-call]
            metadata = pq.read_metadata(stream)
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
        raise VerificationError(f"{file} has no statistics of {name!r}: expected a file that Spark wrote")
    values = footer.values | {name: footer.values.get(name, 0) + chunk.num_values}
    bounds = footer.bounds
    if chunk.physical_type in {"FLOAT", "DOUBLE"}:
        if not statistics.has_min_max:
            raise VerificationError(f"{file} has no least and largest {name!r}: expected a file that Spark wrote")
        bounds = bounds | {name: [*bounds.get(name, []), statistics.min, statistics.max]}
    return replace(footer, values=values, nulls=footer.nulls + statistics.null_count, bounds=bounds)


def verify_run(run: RunLocations, params: RunParams, aws_conn_id: str | None) -> dict[str, Any]:
    """Check a run's outputs.

    Returns
    -------
    dict
        What was found: ``images``, ``rejects``, ``k``, ``variance_reached``, ``warnings``.

    Raises
    ------
    VerificationError
        With every check that failed, each with the figures.
    FileNotFoundError
        When a job's summary is missing.
    """
    featurize = read_json(at(run.featurize_summary, aws_conn_id), "featurize writes it when it has completed")
    pca = read_json(at(run.pca_summary, aws_conn_id), "pca writes it when it has completed")
    problems = [
        *_listing_problems(run, featurize, aws_conn_id),
        *_features_problems(run, featurize, aws_conn_id),
        *_rejects_problems(run, featurize, params, aws_conn_id),
        *_pca_problems(featurize, pca, params),
        *_scores_problems(run, pca, aws_conn_id),
        *_csv_problems(run, pca, aws_conn_id),
    ]
    if problems:
        raise VerificationError(f"{run.root}: " + "; ".join(problems))
    return {
        "images": featurize["features"],
        "rejects": featurize["rejects"],
        "k": pca["k"],
        "variance_reached": pca["variance_reached"],
        "warnings": [*featurize.get("warnings", []), *pca.get("warnings", [])],
    }


def _expect(what: str, found: object, expected: object) -> list[str]:
    return [] if found == expected else [f"{what}: found {found}, expected {expected}"]


def _listing_problems(run: RunLocations, featurize: dict[str, Any], aws_conn_id: str | None) -> list[str]:
    listed = read_footers([at(run.listing, aws_conn_id)]).rows
    return [
        *_expect("rows of the listing", listed, featurize["listed"]),
        *_expect("features + rejects", featurize["features"] + featurize["rejects"], listed),
    ]


def _features_problems(run: RunLocations, featurize: dict[str, Any], aws_conn_id: str | None) -> list[str]:
    footer = read_footers(data_files(at(run.features, aws_conn_id)))
    return [
        *_expect("rows of features", footer.rows, featurize["features"]),
        *_expect("dimensions of features", featurize["dimensions"], FEATURE_DIMENSIONS),
        *_expect("values of features", footer.values.get("features", 0), footer.rows * FEATURE_DIMENSIONS),
        *_expect("nulls in features", footer.nulls, 0),
        *_expect("features are finite", footer.is_finite("features"), True),
    ]


def _rejects_problems(
    run: RunLocations, featurize: dict[str, Any], params: RunParams, aws_conn_id: str | None
) -> list[str]:
    footer = read_footers(data_files(at(run.rejects, aws_conn_id)))
    problems = _expect("rows of rejects", footer.rows, featurize["rejects"])
    if featurize["rejects"] > params.max_reject_ratio * featurize["listed"]:
        problems.append(
            f"rejects: {featurize['rejects']} of {featurize['listed']}, expected at most {params.max_reject_ratio:.2%}"
        )
    return problems


def _pca_problems(featurize: dict[str, Any], pca: dict[str, Any], params: RunParams) -> list[str]:
    problems = [
        *_expect("images of pca", pca["images"], featurize["features"]),
        *_expect("variance target of pca", pca["variance_target"], params.variance_target),
    ]
    if not 1 <= pca["k"] <= FEATURE_DIMENSIONS:
        problems.append(f"k: found {pca['k']}, expected 1 to {FEATURE_DIMENSIONS}")
    reached = pca["variance_reached"]
    if not math.isfinite(reached) or not 0 <= reached <= 1 + 1e-9:
        problems.append(f"variance reached: found {reached}, expected 0 to 1")
    elif reached < params.variance_target and not pca["warnings"]:
        problems.append(f"variance reached: found {reached}, expected {params.variance_target} or a warning")
    return problems


def _scores_problems(run: RunLocations, pca: dict[str, Any], aws_conn_id: str | None) -> list[str]:
    footer = read_footers(data_files(at(run.scores, aws_conn_id)))
    return [
        *_expect("rows of scores", footer.rows, pca["images"]),
        *_expect("values of scores", footer.values.get("components", 0), footer.rows * pca["k"]),
        *_expect("nulls in scores", footer.nulls, 0),
        *_expect("scores are finite", footer.is_finite("components"), True),
    ]


def _csv_problems(run: RunLocations, pca: dict[str, Any], aws_conn_id: str | None) -> list[str]:
    expected = [*(f"F {number}" for number in range(1, pca["k"] + 1)), "label"]
    with at(run.csv, aws_conn_id).open("r", encoding="utf-8", newline="") as stream:  # type: ignore[no-untyped-call]
        lines = csv.reader(stream)
        header = next(lines, [])
        rows = sum(1 for _ in lines)
    return [*_expect("columns of the CSV", header, expected), *_expect("rows of the CSV", rows, pca["images"])]
