"""Names of photos in texts: found however they are escaped, and taken out of JSON without harm to the rest."""

from __future__ import annotations

import json

import pytest

from include.erasure.names import ERASED_TEXT, Names
from include.erasure.request import RequestError, read_request, split_words
from include.lake.layout import Lake

NAMES = Names(["data/a b/é.jpg", "data/x/1.jpg"], ["success"])


@pytest.mark.parametrize(
    ("page", "is_found"),
    [
        ("<td>s3://lake/data/x/1.jpg</td>", True),
        ("<td>s3://lake/data/x/11.jpg, data/x/1.jp</td>", False),
        ("<img alt='data/a b/&eacute;.jpg'>", True),
        ("data/a%20b/%C3%A9.jpg", True),
        (json.dumps("data/a b/é.jpg"), True),
        ("data/data/x/1.jpg", True),
        ('<script>{"photos": [["a b/\\u00e9.jpg", 0]]}</script>', True),
        ('<script>{"photos": [["a b/\\u00e9.jpg2", 0]]}</script>', False),
        ("", False),
    ],
)
def test_names_in_pages(page: str, is_found: bool) -> None:
    assert NAMES.is_in_page(page.encode()) is is_found


def test_scrubbing_leaves_out_what_is_about_a_photo_and_nothing_else() -> None:
    record = {
        "state": "success",
        "first_rejects": [{"path": "s3://lake/data/x/1.jpg", "detail": "d"}, {"path": "s3://lake/data/x/2.jpg"}],
        "by_label": [{"label": "success", "images": 1}, {"label": "x", "images": 1}],
        "lost_labels": ["success", "x"],
        "warnings": ["the label success has no image", "unsuccessful", "drift"],
        "first_unreadable": ["/home/data/x/1.jpg"],
        "failed_tasks": [{"task": "success", "cause": "s3://lake/data/x/1.jpg is bad"}],
        "counts": {"data/x/1.jpg": 1, "other": [1, None, True]},
    }
    assert NAMES.scrub(record) == {
        "state": "success",
        "first_rejects": [{"path": "s3://lake/data/x/2.jpg"}],
        "by_label": [{"label": "x", "images": 1}],
        "lost_labels": ["x"],
        "warnings": ["unsuccessful", "drift"],
        "first_unreadable": [ERASED_TEXT],
        "failed_tasks": [{"task": "success", "cause": ERASED_TEXT}],
        "counts": {"other": [1, None, True]},
    }


LAKE = Lake("file:///lake é")


@pytest.mark.parametrize(
    "path", ["data/Kiwi/1.jpg", "file:///lake é/data/Kiwi/1.jpg", "/lake é/data/Kiwi/1.jpg", "data/Kiwi/1.jpg\n"]
)
def test_a_path_in_any_form_is_the_same_photo(path: str) -> None:
    assert read_request(LAKE, [path, ""], [" "]).paths == ("data/Kiwi/1.jpg",)


@pytest.mark.parametrize("path", ["/other/1.jpg", "s3://other/data/1.jpg", "1.jpg", "data/../1.jpg", "data//1.jpg"])
def test_a_path_outside_the_lake_is_refused(path: str) -> None:
    with pytest.raises(RequestError, match="expected a path such as"):
        read_request(LAKE, [path], [])


def test_words_are_split_as_in_a_shell() -> None:
    assert split_words("""'Apple Red' "b\\"c" d,e""") == ["Apple Red", 'b"c', "d,e"]
    with pytest.raises(RequestError, match="use FILE"):
        split_words("'a")
    with pytest.raises(RequestError, match="nothing is named"):
        read_request(LAKE, [], [])
