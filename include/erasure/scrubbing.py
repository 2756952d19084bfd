"""Texts of the lake without the names of erased photos: JSON, the lists of photos, and what the report shows. Pure.

The photos of ``insights.json`` are named by their numbers, so an erased one leaves an empty place.
"""

from __future__ import annotations

import csv
import io
import json

from include.erasure.names import Names
from spark_jobs.args import DUPLICATES_FILE, INSIGHTS_FILE, OUTLIERS_FILE, UNLIKE_LABEL_FILE
from spark_jobs.records import DuplicateGroup, Insights, NeighboursOfPhoto, ShownPhoto

NOTHING: ShownPhoto = {"path": "", "label": "", "thumbnail": None}
"""The place of an erased photo."""

PATH_COLUMNS = ("path", "nearest_path")
LABEL_COLUMNS = ("label", "looks_like")
"""The columns of the lists that name photos and labels."""


LISTS = (DUPLICATES_FILE, OUTLIERS_FILE, UNLIKE_LABEL_FILE)

SEARCHED = (".json", ".html", *(f"/{name}" for name in LISTS))
"""Endings of the paths of the files that are searched for names."""


def has_name(path: str, data: bytes, names: Names) -> bool:
    """Return whether a text has something of an erased photo.

    Parameters
    ----------
    path : str
        The file's path in the lake.
    data : bytes
    names : Names
    """
    try:
        return names.is_in_page(data) if path.endswith(".html") else scrub(path, data, names) is not None
    except ValueError:
        return names.is_in_page(data)


def scrub(path: str, data: bytes, names: Names) -> bytes | None:
    """Return a JSON file or a list of photos without erased photos, in its form; None if it has none of them.

    Parameters
    ----------
    path : str
        The file's path in the lake.
    data : bytes
    names : Names

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    if path.endswith(".csv"):
        return scrub_list(data, names)
    before = json.loads(data)
    try:
        after = scrub_insights(before, names) if is_insights(path) else names.scrub(before)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"{path} has not the form of insights: {error!r}") from error
    if after == before:
        return None
    is_line = data.count(b"\n") <= 1  # as a row of the table of all reports
    text = json.dumps(after, indent=None if is_line else 2, ensure_ascii=is_line, sort_keys=True)
    return f"{text}\n".encode()


def is_insights(path: str) -> bool:
    """Return whether a file is the ``insights.json`` of a run."""
    return path.endswith(f"/{INSIGHTS_FILE}")


def erased_photos(data: bytes, names: Names) -> list[ShownPhoto]:
    """Return the erased photos that an ``insights.json`` shows; none if the file is damaged."""
    try:
        insights = json.loads(data)
        return [insights["photos"][number] for number in _erased_numbers(insights, names)]
    except (ValueError, KeyError, TypeError):
        return []


def _erased_numbers(insights: Insights, names: Names) -> set[int]:
    return {
        number
        for number, photo in enumerate(insights["photos"])
        if names.has_path(photo["path"]) or photo["label"] in names.labels
    }


def scrub_insights(insights: Insights, names: Names) -> Insights:
    """Return the insights of a run without the erased photos, and without what is said about them.

    Figures over all photos stay. A group of duplicates of which less than two shown photos are left is left out.

    Parameters
    ----------
    insights : Insights
    names : Names
    """
    gone = _erased_numbers(insights, names)

    def stay(numbers: list[int]) -> list[int]:
        return [number for number in numbers if number not in gone]

    def scrub_group(group: DuplicateGroup) -> DuplicateGroup:
        size = group["size"] - len(group["photos"]) + len(stay(group["photos"]))
        labels = [label for label in group["labels"] if label not in names.labels]
        return {**group, "size": size, "photos": stay(group["photos"]), "labels": labels}

    columns = [place for place, number in enumerate(insights["map"]["photos"]) if number not in gone]
    groups = [scrub_group(group) for group in insights["duplicates"]["groups"]]
    unlike = [
        row
        for row in insights["unlike"]["rows"]
        if not {row["photo"], row["nearest"]} & gone and row["looks_like"] not in names.labels
    ]
    neighbours: list[NeighboursOfPhoto] = [
        {
            **asked,
            "nearest": stay(asked["nearest"]),
            "distances": [
                distance
                for number, distance in zip(asked["nearest"], asked["distances"], strict=True)
                if number not in gone
            ],
        }
        for asked in insights["neighbours"]
        if asked["photo"] not in gone
    ]
    scores = [[column[place] for place in columns] for column in insights["map"]["scores"]]
    return {
        **insights,
        "photos": [NOTHING if number in gone else photo for number, photo in enumerate(insights["photos"])],
        "map": {"photos": stay(insights["map"]["photos"]), "scores": scores},
        "ends": [stay(end) for end in insights["ends"]],
        "unlike": {**insights["unlike"], "rows": unlike},
        "outliers": {
            **insights["outliers"],
            "rows": [row for row in insights["outliers"]["rows"] if row["photo"] not in gone],
        },
        "duplicates": {**insights["duplicates"], "groups": [group for group in groups if len(group["photos"]) > 1]},
        "neighbours": neighbours,
        "rejects": stay(insights["rejects"]),
    }


def scrub_list(data: bytes, names: Names) -> bytes | None:
    """Return a list of photos, a CSV file, without the rows that name erased ones; None if it has none.

    Parameters
    ----------
    data : bytes
    names : Names
    """
    rows = list(csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline="")))
    header = rows[0] if rows else []
    paths, labels = (
        [place for place, name in enumerate(header) if name in columns] for columns in (PATH_COLUMNS, LABEL_COLUMNS)
    )

    def is_about(row: list[str]) -> bool:
        named = any(names.has_path(row[place]) for place in paths if place < len(row))
        return named or any(row[place] in names.labels for place in labels if place < len(row))

    kept = [row for row in rows if not is_about(row)]
    if len(kept) == len(rows):
        return None
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(kept)
    return stream.getvalue().encode()
