"""The insights of a run: ``insights.json`` for the report, and its lists as CSV files."""

from __future__ import annotations

import base64
import csv
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from spark_jobs.args import (
    DUPLICATES_FILE,
    ERASED,
    FEATURIZE_SUMMARY_FILE,
    INSIGHTS_FILE,
    LISTING_FILE,
    OUTLIERS_FILE,
    SCORES_FOLDER,
    UNLIKE_LABEL_FILE,
)
from spark_jobs.insights import cells, collection, comparison, duplicates, published_thumbnails, thumbnails
from spark_jobs.insights.collection import Collected, Rule
from spark_jobs.insights.comparison import Compared, Comparison
from spark_jobs.insights.duplicates import Group
from spark_jobs.lake import storage
from spark_jobs.lake.schemas import FILE_NAME
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.records import (
    DuplicateGroup,
    Duplicates,
    Insights,
    Outliers,
    PhotoMap,
    ShownPhoto,
    Unlike,
)
from spark_jobs.runtime import workers

if TYPE_CHECKING:
    from pyspark import SparkContext

logger = logging.getLogger(__name__)

SHOWN_SUSPECTS, SHOWN_OUTLIERS, SHOWN_GROUPS, SHOWN_OF_A_GROUP, SHOWN_ASKED = 24, 10, 12, 4, 5
"""Number of photos and groups that the report shows; the CSV files have more."""

MAP_COMPONENTS = 50
"""Number of components that the map can show."""

MAX_DIGESTS = 1000
"""Number of files whose digests are computed."""

CURVE_SHARE = 0.99
"""The curve of the variance ends where it reaches this share."""


@dataclass
class _Photos:
    """The photos that the report shows, each once."""

    labels: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def add(self, path: str, label: str) -> int:
        """Return the number of a photo."""
        self.labels[path] = label
        return self.numbers.setdefault(path, len(self.numbers))


def write(
    sc: SparkContext,
    run: str,
    fitted: FittedPca,
    rule: Rule,
    parts: Sequence[Collected | None],
    seed: int,
    known: Mapping[str, bytes] | None = None,
) -> str | None:
    """Write the insights of a run; an error never fails the job.

    Parameters
    ----------
    sc : SparkContext
    run : str
        URI of the run's folder.
    fitted : FittedPca
    rule : Rule
    parts : sequence of Collected or None
        What the workers have collected of each file of scores; None if that failed.
    seed : int
        Random seed of the samples; it is only recorded.
    known : mapping of str to bytes, optional
        Thumbnails by path, instead of those of the published run.

    Returns
    -------
    str or None
        A warning if the report lacks something.
    """
    try:
        return _write(sc, run, fitted, rule, parts, seed, known)
    except Exception as error:
        logger.exception("the insights cannot be written")
        return f"the report has no map and no photos: {type(error).__name__}: {error}"


def _write(
    sc: SparkContext,
    run: str,
    fitted: FittedPca,
    rule: Rule,
    parts: Sequence[Collected | None],
    seed: int,
    known: Mapping[str, bytes] | None,
) -> str | None:
    if any(part is None for part in parts):
        return "the report has no map and no photos: collecting them failed, as the log of a worker says"
    collected = collection.merge(cast("Sequence[Collected]", parts))
    reference = collected.reference.photos
    shared = tuple(cells.find_shared([grid]) for grid in collected.hashes)
    scale = comparison.measure_scale(reference)
    asked = comparison.ask(reference, SHOWN_ASKED)
    compared = _compare(sc, run, len(parts), Comparison(rule.space, rule.grids, reference, shared, scale, asked))
    groups = duplicates.find(compared.cells, rule.space)
    summary = storage.read_json(storage.join(run, FEATURIZE_SUMMARY_FILE))

    shown = _Photos()
    on_map = collected.on_map
    unit = rule.space.deviation or 1.0
    record: Insights = {
        "images": fitted.n,
        "seed": seed,
        "reference": {"photos": len(reference), "labels": len(set(reference.labels))},
        "photos": [],
        "thumbnail_side": thumbnails.SIDE,
        "map": _describe_map(shown, on_map.paths, on_map.labels, on_map.points),
        "ends": [[shown.add(photo.path, photo.label) for photo in end] for end in collected.ends],
        "unlike": _describe_unlike(shown, compared),
        "outliers": _describe_outliers(shown, compared, scale),
        "duplicates": {"groups": [], "count": 0, "photos": 0, "complete": True},
        "neighbours": [
            {
                "photo": shown.add(reference.paths[row], reference.labels[row]),
                "nearest": [shown.add(near.path, near.label) for near in found],
                "distances": [round(near.distance / unit, 4) for near in found],
            }
            for row, found in zip(asked, compared.neighbours, strict=True)
        ],
        "variance_curve": _curve(fitted),
        "rejects": [
            shown.add(reject["path"], "") for reject in summary.get("first_rejects", []) if reject["reason"] != ERASED
        ],
    }
    for group in groups[:SHOWN_GROUPS]:
        for member in group.members[:SHOWN_OF_A_GROUP]:
            shown.add(member.path, member.label)
    known = published_thumbnails.find(run) if known is None else known
    read, problem = _read_photos(sc, run, shown, groups, summary.get("arguments", {}), known)
    complete = all(grid.complete for grid in shared) and rule.grids.largest_hash == cells.LARGEST_HASH
    record["duplicates"] = _describe_duplicates(shown, groups, read, complete)
    record["photos"] = [_shown_photo(path, shown.labels[path], read) for path in shown.numbers]
    _write_lists(run, compared, scale, groups, read)
    storage.write_json(storage.join(run, INSIGHTS_FILE), cast("Mapping[str, Any]", record))
    return problem


def _compare(sc: SparkContext, run: str, files: int, compare_with: Comparison) -> Compared:
    """Compare all photos with the reference, one task per file of scores."""
    folder = storage.join(run, SCORES_FOLDER)
    sources = [storage.join(folder, FILE_NAME.format(number)) for number in range(files)]
    shared = sc.broadcast(compare_with)
    return comparison.merge(workers.run(sc, sources, lambda source: comparison.compare(source, shared.value)))


def _read_photos(
    sc: SparkContext,
    run: str,
    shown: _Photos,
    groups: Sequence[Group],
    arguments: Mapping[str, Any],
    known: Mapping[str, bytes],
) -> tuple[dict[str, thumbnails.Read], str | None]:
    """Return the thumbnails of the shown photos and the digests of the duplicates, and why they cannot be read.

    Known thumbnails are kept.
    """
    duplicated = [member.path for group in groups for member in group.members][:MAX_DIGESTS]
    try:
        kept = {path: image for path, image in known.items() if path in shown.numbers}
        missing = [path for path in shown.numbers if path not in kept]
        sizes = thumbnails.find_sizes(storage.join(run, LISTING_FILE), [*missing, *duplicated])
        with_thumbnail, with_digest = set(missing), set(duplicated)
        wanted = [
            thumbnails.Wanted(path, sizes[path], path in with_thumbnail, path in with_digest)
            for path in dict.fromkeys([*missing, *duplicated])
            if path in sizes
        ]
        read = thumbnails.read(sc, wanted, arguments)
        for path, image in kept.items():
            read[path] = read.get(path, thumbnails.NOTHING)._replace(thumbnail=image)
        return read, None
    except Exception as error:
        logger.exception("the photos for the report cannot be read")
        return {}, f"the report shows no pictures of photos: {type(error).__name__}: {error}"


def _shown_photo(path: str, label: str, read: Mapping[str, thumbnails.Read]) -> ShownPhoto:
    thumbnail = read.get(path, thumbnails.NOTHING).thumbnail
    encoded = None if thumbnail is None else base64.b64encode(thumbnail).decode()
    return {"path": path, "label": label, "thumbnail": encoded}


def _describe_map(shown: _Photos, paths: Iterable[str], labels: Iterable[str], points: Any) -> PhotoMap:
    kept = points[:, :MAP_COMPONENTS]
    return {
        "photos": [shown.add(path, label) for path, label in zip(paths, labels, strict=True)],
        "scores": [[round(float(value), 3) for value in column] for column in kept.T],
    }


def _describe_unlike(shown: _Photos, compared: Compared) -> Unlike:
    label_of = {suspect.nearest: suspect.looks_like for suspect in compared.suspects}
    return {
        "count": compared.suspect_count,
        "judged": compared.judged,
        "rows": [
            {
                "photo": shown.add(suspect.path, suspect.label),
                "looks_like": suspect.looks_like,
                "votes": suspect.votes,
                "nearest": shown.add(suspect.nearest, label_of[suspect.nearest]),
            }
            for suspect in compared.suspects[:SHOWN_SUSPECTS]
        ],
    }


def _describe_outliers(shown: _Photos, compared: Compared, scale: comparison.Scale) -> Outliers:
    return {
        "count": compared.outlier_count,
        "rows": [
            {"photo": shown.add(outlier.path, outlier.label), "times_usual": _times_usual(outlier, scale)}
            for outlier in compared.outliers[:SHOWN_OUTLIERS]
        ],
    }


def _times_usual(outlier: comparison.Outlier, scale: comparison.Scale) -> float | None:
    return round(-outlier.rank / scale.usual, 3) if scale.usual > 0 else None


def _kind(group: Group, read: Mapping[str, thumbnails.Read]) -> str:
    """Return whether the files of a group have equal bytes, equal features, or features that are nearly equal."""
    digests = {read.get(member.path, thumbnails.NOTHING).digest for member in group.members}
    if len(digests) == 1 and None not in digests:
        return "identical_bytes"
    return "equal_features" if group.is_same else "near_features"


def _describe_duplicates(
    shown: _Photos, groups: Sequence[Group], read: Mapping[str, thumbnails.Read], complete: bool
) -> Duplicates:
    rows: list[DuplicateGroup] = [
        {
            "kind": _kind(group, read),
            "size": len(group.members),
            "photos": [shown.numbers[member.path] for member in group.members[:SHOWN_OF_A_GROUP]],
            "labels": sorted({member.label for member in group.members}),
            "distance": round(max(group.distances), 4),
        }
        for group in groups[:SHOWN_GROUPS]
    ]
    photos = sum(len(group.members) for group in groups)
    return {"groups": rows, "count": len(groups), "photos": photos, "complete": complete}


def _curve(fitted: FittedPca) -> list[float]:
    """Return the cumulative share of the variance of 1, 2, … axes, kept or not, until it reaches ``CURVE_SHARE``."""
    shares = np.cumsum(fitted.explained_variance_ratio)
    end = max(fitted.k, int(np.searchsorted(shares, CURVE_SHARE)) + 1)
    return [round(float(share), 5) for share in shares[:end]]


def _write_lists(
    run: str,
    compared: Compared,
    scale: comparison.Scale,
    groups: Sequence[Group],
    read: Mapping[str, thumbnails.Read],
) -> None:
    """Write the lists that the report shows the beginning of."""
    _write_csv(
        storage.join(run, UNLIKE_LABEL_FILE),
        ["path", "label", "looks_like", "votes", "nearest_path", "own_distance", "other_distance"],
        (suspect[1:] for suspect in compared.suspects),
    )
    _write_csv(
        storage.join(run, OUTLIERS_FILE),
        ["path", "label", "times_usual_distance", "beyond_fence"],
        (
            (outlier.path, outlier.label, _times_usual(outlier, scale), -outlier.rank > scale.fence)
            for outlier in compared.outliers
        ),
    )
    _write_csv(
        storage.join(run, DUPLICATES_FILE),
        ["group", "kind", "path", "label", "distance", "sha256"],
        (
            (number, _kind(group, read), member.path, member.label, round(distance, 6),
             read.get(member.path, thumbnails.NOTHING).digest)
            for number, group in enumerate(groups, 1)
            for member, distance in zip(group.members, group.distances, strict=True)
        ),
    )  # fmt: skip


def _write_csv(uri: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    storage.write_bytes(uri, stream.getvalue().encode())
