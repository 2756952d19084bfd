"""Erased photos are taken out of JSON, lists and insights; the rest stays, in the form of the file."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from include.erasure.names import Names
from include.erasure.scrubbing import erased_photos, has_name, scrub

NAMES = Names(["data/x/1.jpg"], ["gone"])
INSIGHTS = "runs/a/pca/insights/insights.json"

RECORD: dict[str, Any] = {
    "images": 9,
    "photos": [
        {"path": f"s3://lake/data/{label}/{number}.jpg", "label": label, "thumbnail": f"picture {number}"}
        for number, label in enumerate(["x", "x", "y", "gone", "y", "y"])
    ],
    "map": {"photos": [4, 1, 0, 3], "scores": [[0.4, 0.1, 0.0, 0.3], [1.4, 1.1, 1.0, 1.3]]},
    "ends": [[0, 1, 2], [3], []],
    "unlike": {
        "count": 7,
        "judged": 9,
        "rows": [
            {"photo": 0, "looks_like": "y", "votes": 3, "nearest": 2},
            {"photo": 1, "looks_like": "y", "votes": 3, "nearest": 2},
            {"photo": 2, "looks_like": "x", "votes": 3, "nearest": 1},
            {"photo": 4, "looks_like": "gone", "votes": 3, "nearest": 5},
        ],
    },
    "outliers": {"count": 1, "rows": [{"photo": 1, "times_usual": 4.0}, {"photo": 5, "times_usual": 3.0}]},
    "duplicates": {
        "groups": [
            {"kind": "k", "size": 2, "photos": [0, 1], "labels": ["x"], "distance": 0.0},
            {"kind": "k", "size": 7, "photos": [2, 3, 4], "labels": ["gone", "y"], "distance": 0.1},
            {"kind": "k", "size": 2, "photos": [4, 5], "labels": ["y"], "distance": 0.2},
        ],
        "count": 3,
        "photos": 11,
        "complete": True,
    },
    "neighbours": [
        {"photo": 1, "nearest": [0, 2], "distances": [0.1, 0.2]},
        {"photo": 4, "nearest": [1, 5, 3], "distances": [0.1, 0.2, 0.3]},
    ],
    "rejects": [1, 5],
}


def test_insights_lose_the_photos_and_what_is_said_about_them() -> None:
    data = json.dumps(RECORD).encode()
    expected = copy.deepcopy(RECORD)
    for number in (1, 3):
        expected["photos"][number] = {"path": "", "label": "", "thumbnail": None}
    expected["map"] = {"photos": [4, 0], "scores": [[0.4, 0.0], [1.4, 1.0]]}
    expected["ends"] = [[0, 2], [], []]
    expected["unlike"]["rows"] = [RECORD["unlike"]["rows"][0]]
    expected["outliers"]["rows"] = [RECORD["outliers"]["rows"][1]]
    second, third = copy.deepcopy(RECORD["duplicates"]["groups"][1:])
    expected["duplicates"]["groups"] = [{**second, "size": 6, "photos": [2, 4], "labels": ["y"]}, third]
    expected["neighbours"] = [{"photo": 4, "nearest": [5], "distances": [0.2]}]
    expected["rejects"] = [5]
    scrubbed = scrub(INSIGHTS, data, NAMES)
    assert scrubbed is not None
    assert json.loads(scrubbed) == expected
    assert not has_name(INSIGHTS, scrubbed, NAMES)
    assert [photo["thumbnail"] for photo in erased_photos(data, NAMES)] == ["picture 1", "picture 3"]
    assert scrub(INSIGHTS, data, Names(["data/x/2.jpg"], [])) is None


def test_damaged_insights_are_searched_as_text() -> None:
    for damaged in (b'{"photos": ["s3://lake/data/x/1.jpg"', b'{"photos": [{"path": "s3://lake/data/x/1.jpg"}]}'):
        assert has_name(INSIGHTS, damaged, NAMES)
        with pytest.raises(ValueError, match=r"Expecting|form of insights"):
            scrub(INSIGHTS, damaged, NAMES)
    assert erased_photos(damaged, NAMES) == [{"path": "s3://lake/data/x/1.jpg"}]
    assert erased_photos(b"[", NAMES) == []
    assert not has_name(INSIGHTS, b"[", NAMES)


def test_a_list_loses_the_rows_that_name_a_photo_or_a_label() -> None:
    rows = [
        "path,label,looks_like,votes,nearest_path",
        "s3://lake/data/x/0.jpg,x,y,3,s3://lake/data/y/2.jpg",
        "s3://lake/data/x/1.jpg,x,y,3,s3://lake/data/y/2.jpg",
        "s3://lake/data/y/2.jpg,y,x,3,s3://lake/data/x/1.jpg",
        "s3://lake/data/y/4.jpg,y,gone,3,s3://lake/data/z/9.jpg",
        '"s3://lake/data/y/a,b.jpg",y,z,3,s3://lake/data/z/9.jpg',
    ]
    data = "".join(f"{row}\n" for row in rows).encode()
    path = "runs/a/pca/insights/unlike_label.csv"
    expected = "".join(f"{row}\n" for row in (rows[0], rows[1], rows[5])).encode()
    assert scrub(path, data, NAMES) == expected
    assert scrub(path, expected, NAMES) is None


def test_a_json_file_keeps_its_form() -> None:
    line = (json.dumps({"b": "é", "a": ["data/x/1.jpg"]}) + "\n").encode()
    path = "reports/run=a/report.json"
    assert scrub(path, line, NAMES) == b'{"a": [], "b": "\\u00e9"}\n', "a row of the table of all reports"
    pretty = (json.dumps({"b": "é", "a": ["data/x/1.jpg"]}, indent=2, ensure_ascii=False) + "\n").encode()
    assert scrub(path, pretty, NAMES) == '{\n  "a": [],\n  "b": "é"\n}\n'.encode()
    assert scrub(path, b'{"a": "data/x/2.jpg"}', NAMES) is None
