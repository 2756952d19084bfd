"""The data that the report's page draws: photos, map, curve, history and time line, as JSON of bounded size. Pure."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from include.records import Report
from spark_jobs.records import Drift, Insights, Measure

MAX_BYTES = 4_200_000
"""Size of the data; the rest of the page, of which 280 kB are d3, stays below 800 kB."""

MAX_LABELS = 42
"""Number of labels on the map with a sign of their own: seven colours times six shapes."""

TARGETS = (0.9, 0.95)
"""Shares of the variance for which the page says how many components they would take."""


def build_page_data(report: Report, insights: Insights | None, history: Sequence[Mapping[str, Any]]) -> str:
    """Return the data of a page as JSON that may stand in a ``script`` element.

    If it were too large, because paths or labels are very long, the map would have fewer photos; then photos would have
    no thumbnails.

    Parameters
    ----------
    report : Report
    insights : Insights or None
        None if the run has none.
    history : sequence of mapping
        The rows of the last runs in the table of all reports, the oldest first.
    """
    most = len(insights["map"]["photos"]) if insights else 0
    text = ""
    for on_map, with_thumbnails in ((most, True), (most // 2, True), (most // 4, True), (most // 4, False), (0, False)):
        text = _escape(json.dumps(_build(report, insights, history, on_map, with_thumbnails), ensure_ascii=False))
        if len(text.encode()) <= MAX_BYTES:
            break
    return text


def _build(
    report: Report, insights: Insights | None, history: Sequence[Mapping[str, Any]], on_map: int, with_thumbnails: bool
) -> dict[str, Any]:
    curve = insights["variance_curve"] if insights else list(itertools.accumulate(report["explained_variance_ratio"]))
    photos, labels, points = _photos(report["images_folder"], insights, on_map, with_thumbnails)
    counts = Counter(photos[number][1] for number in points["photos"])
    return {
        "k": report["k"],
        "reached": report["variance_reached"],
        "shares": report["explained_variance_ratio"],
        "curve": curve,
        "takes": [count for count in (takes(curve, target) for target in TARGETS) if count],
        "labels": labels,
        "legend": sorted((label for label, _ in counts.most_common(MAX_LABELS)), key=lambda label: labels[label]),
        "photos": photos,
        "map": points,
        "history": [history_point(row) for row in history],
        "timeline": cost.get("timeline", []) if (cost := report["cost"]) else [],
    }


def _photos(
    folder: str, insights: Insights | None, on_map: int, with_thumbnails: bool
) -> tuple[list[list[Any]], list[str], dict[str, Any]]:
    """Return the photos, the labels that they name by number, and the map.

    The photos keep their numbers. Those that are on the map only, and no longer on it, are empty.
    """
    if insights is None:
        return [], [], {"photos": [], "scores": []}
    numbers: dict[str, int] = {}
    shown = insights["map"]["photos"][:on_map]
    left_out = set(insights["map"]["photos"][on_map:]) - set(shown) - elsewhere(insights)
    photos: list[list[Any]] = []
    for number, photo in enumerate(insights["photos"]):
        label = numbers.setdefault(photo["label"], len(numbers))
        thumbnail = photo["thumbnail"] if with_thumbnails else None
        photos.append(["", label, None] if number in left_out else [short(photo["path"], folder), label, thumbnail])
    scores = [column[:on_map] for column in insights["map"]["scores"]]
    return photos, list(numbers), {"photos": shown, "scores": scores}


def elsewhere(insights: Insights) -> set[int]:
    """Return the numbers of the photos that the page shows outside the map."""
    numbers = {number for end in insights["ends"] for number in end} | set(insights["rejects"])
    for row in insights["unlike"]["rows"]:
        numbers |= {row["photo"], row["nearest"]}
    numbers |= {row["photo"] for row in insights["outliers"]["rows"]}
    numbers |= {number for group in insights["duplicates"]["groups"] for number in group["photos"]}
    for asked in insights["neighbours"]:
        numbers |= {asked["photo"], *asked["nearest"]}
    return numbers


def short(path: str, folder: str) -> str:
    """Return a path relative to the folder of images."""
    return path.removeprefix(folder.rstrip("/") + "/")


def name_below(path: str, label: str, folder: str) -> str:
    """Return a path relative to the folder of images, without the folder of its label if it begins with it."""
    return short(path, folder).removeprefix(f"{label}/")


def takes(curve: Sequence[float], target: float) -> int | None:
    """Return how many components reach a share of the variance; None if the curve ends before."""
    return next((count for count, reached in enumerate(curve, 1) if reached >= target), None)


def history_point(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the charts show of a run, from its row in the table of all reports; unknown figures are None."""
    accuracy = (row.get("quality") or {}).get("knn_accuracy") or {}
    drift: Drift | dict[str, Any] = row.get("drift") or {}
    point = {
        "run": row["run"],
        "finished_at": row["finished_at"],
        "k": row.get("k"),
        "accuracy_features": accuracy.get("features"),
        "accuracy_components": accuracy.get("components"),
        "eur": row.get("cost_eur_at_most"),
    }
    for name in ("mean_shift", "variance_change", "variance_missed"):
        measure: Measure | dict[str, Any] = drift.get(name) or {}  # type: ignore[assignment]
        value, chance, threshold = measure.get("value"), measure.get("by_chance"), drift.get("threshold")
        point[name] = abs(value) if value is not None else None
        point[f"{name}_limit"] = None if chance is None or threshold is None else chance + threshold
    return point


def _escape(text: str) -> str:
    """Escape what would end a ``script`` element or begin a comment in it, and line ends of JavaScript."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
