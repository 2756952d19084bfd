"""The report: everything that it shows is text, and it can be made of every run."""

from __future__ import annotations

import html.parser
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.report import CHART_BOTTOM, CHART_LEFT, CHART_RIGHT, CHART_TOP, build_report, render_index, render_report
from tests.include.run_records import featurize_summary, manifest, pca_summary, run_record

EVIL = "<script>alert('\"&')</script>"


class Page(html.parser.HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(**changes: Any) -> Page:
    return Page(render_report(build_report(manifest(**changes))))


def test_report_shows_the_figures() -> None:
    page = page_of()
    text = " ".join(page.text.split())
    for shown in ("3images", "1rejects", "2components", "90.0%of the variance", "truncated", "j-1", "feedface"):
        assert shown.replace(" ", "") in text.replace(" ", ""), shown


@pytest.mark.parametrize("where", ["path", "reason", "detail", "folder", "warning", "param", "model"])
def test_every_text_is_escaped(where: str) -> None:
    rejects = [{"path": "p", "reason": "r", "detail": "d"}]
    run, checked = run_record(), {"warnings": ["w"]}
    if where in rejects[0]:
        rejects[0][where] = EVIL
    run["images"] = EVIL if where == "folder" else run["images"]
    run["params"]["image_pattern"] = EVIL if where == "param" else "*.jpg"
    run["model"]["digest"] = EVIL if where == "model" else "d"
    checked["warnings"] = [EVIL] if where == "warning" else []
    page = page_of(run=run, checked=checked, featurize=featurize_summary(first_rejects=rejects))
    assert "script" not in page.tags
    assert EVIL in page.text


@given(st.text(max_size=40), st.text(max_size=40))
def test_reasons_and_paths_of_any_characters_change_no_tag(path: str, reason: str) -> None:
    rejects = [{"path": path, "reason": reason, "detail": path}]
    page = page_of(featurize=featurize_summary(first_rejects=rejects, rejects_by_reason={reason: 1}))
    assert page.tags == page_of().tags


def test_report_needs_nothing_beside_it() -> None:
    page = page_of()
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert [name for name, _ in page.attributes if name in {"src", "href", "onload", "onerror"}] == []


@pytest.mark.parametrize(
    ("featurize", "pca"),
    [
        (featurize_summary(listed=3, rejects=0, rejects_by_reason={}, first_rejects=[]), pca_summary()),
        (featurize_summary(), pca_summary(k=1, explained_variance_ratio=[0.0], variance_reached=0.0)),
        (featurize_summary(), pca_summary(k=1, explained_variance_ratio=[1.0], variance_reached=1.0)),
        (featurize_summary(features=1_234_567), pca_summary(k=1280, explained_variance_ratio=[1 / 1280] * 1280)),
    ],
)
def test_runs_at_the_edges_have_a_report(featurize: dict[str, Any], pca: dict[str, Any]) -> None:
    page = page_of(featurize=featurize, pca=pca)
    assert ("Rejects" in page.text) == bool(featurize["rejects"])
    [points] = [value for name, value in page.attributes if name == "points"]
    pairs = [tuple(map(float, pair.split(","))) for pair in str(points).split()]
    assert len(pairs) == pca["k"]
    for x, y in pairs:
        assert CHART_LEFT <= x <= CHART_RIGHT + 0.1
        assert CHART_TOP - 0.1 <= y <= CHART_BOTTOM + 0.1
    assert [y for _, y in pairs] == sorted((y for _, y in pairs), reverse=True), "cumulated, it never sinks"


def test_random_weights_are_told_on_top_of_the_page() -> None:
    page = page_of(run=run_record(model=run_record()["model"] | {"weights": {"source": "random"}}))
    assert "RANDOM WEIGHTS" in page.text.partition("images")[0]
    assert "RANDOM" not in page_of().text


def test_report_for_programs_has_what_the_local_run_prints() -> None:
    report = build_report(manifest())
    for name in ("images", "rejects", "rejects_by_reason", "k", "variance_reached", "seconds", "warnings"):
        assert name in report


def test_index_links_to_each_run() -> None:
    source = render_index(["20261122T120000Z-0123abcd", "20261121T120000Z-0123abcd"])
    assert re.findall(r'href="([^"]+)"', source) == ["20261122T120000Z-0123abcd", "20261121T120000Z-0123abcd"]
    assert "No run has published yet" in render_index([])
