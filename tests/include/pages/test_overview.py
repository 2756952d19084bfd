"""The table of runs: its figures are those of the reports, and each run leads to its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from include.pages.overview import build_rows, draw_trends
from include.pages.sparkline import draw
from include.reports.report import add_failures, build_report
from tests.include.hostile_names import HOSTILE
from tests.include.pages.conftest import Browser, write_report
from tests.include.report_page import Page
from tests.include.run_records import (
    cost_record,
    failure_report,
    featurize_summary,
    found_record,
    manifest,
    pca_summary,
    run_record,
    unchanged_report,
)

SLUGS = [f"202611{day}T120000Z-0123abcd" for day in range(10, 16)]
MOMENTS = [f"2026-11-{day}T12:05:00+00:00" for day in range(10, 16)]


def published(number: int, *, variance: float = 0.9, rejects: int = 1, **changes: Any) -> Any:
    run = run_record(slug=SLUGS[number], opened_at=f"2026-11-{number + 10}T12:00:00+00:00")
    found = found_record(run=SLUGS[number], new=4, changed=2, gone=1, work=6)
    parts = {"featurize": featurize_summary(rejects=rejects), "pca": pca_summary(variance_reached=variance), **changes}
    return build_report(manifest(run=run, found=found, finished_at=MOMENTS[number], **parts))


def unchanged(number: int) -> Any:
    return unchanged_report(run=SLUGS[number], published_run=SLUGS[0], finished_at=MOMENTS[number])


def failed(number: int, cause: str, **changes: Any) -> Any:
    failure = {"task": "wait_featurize", "kind": "bad_input", "cause": cause, "advice": ""}
    return failure_report(run=SLUGS[number], finished_at=MOMENTS[number], failed_tasks=[failure], **changes)


def hrefs(page: Page) -> list[str]:
    return [str(value) for name, value in page.attributes if name == "href"]


@pytest.mark.slow
def test_the_table_has_the_figures_of_every_run_newest_first(user: Browser, lake: Path) -> None:
    write_report(lake, published(0, cost=cost_record()))
    write_report(lake, unchanged(1))
    write_report(lake, failed(2, "too many rejects", cluster={"id": "j-2", "name": "x"}, images=5, rejects=4))
    write_report(lake, add_failures(published(3, variance=0.8), []))
    page = Page(user.get("/").text)
    cells = [row for row in page.rows if row[0].startswith("2026-")]
    assert [row[0][:16] for row in cells] == [f"{moment[:10]} 12:05" for moment in MOMENTS[3::-1]]
    assert [row[1:10] for row in cells] == [
        ["3", "4", "2", "1", "1", "2", "80.0%", "5.0", "—"],
        ["5", "—", "—", "—", "4", "—", "—", "—", "—"],
        ["1,234,567", "0", "0", "0", "3", "40", "80.1%", "0.2", "0.00"],
        ["3", "4", "2", "1", "1", "2", "90.0%", "5.0", "0.69"],
    ]
    assert [
        next(word for word in ("nothing to do", "published", "failed") if word in row[0]) for row in cells[::-1]
    ] == ["published", "nothing to do", "failed", "failed"]
    assert "wait_featurize: too many rejects" in cells[1][0]
    assert [row[-1] for row in cells[1:]] == ["reportlogscluster", "published report", "reportrejectsCSVlogscluster"]
    links = hrefs(page)
    for number, ends in enumerate((["report.html", "rejects.csv", "pca_features.csv"], [], ["report.html"])):
        assert {link for link in links if SLUGS[number] in link} == {
            f"/fruit-reports/{SLUGS[number]}/{end}" for end in ends
        }
    assert {"/fruit-reports/clusters/j-2", "/fruit-reports/clusters/j-2#logs"} <= set(links)


@pytest.mark.slow
def test_an_empty_lake_has_an_empty_table(user: Browser, lake: Path) -> None:
    page = Page(user.get("/").text)
    assert "No run has ended yet" in page.text
    assert "table" not in page.tags


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_change_nothing_but_the_text(user: Browser, lake: Path, name: str) -> None:
    """A cause quotes the names of files and labels; the addresses of pages quote what the reader asked for."""
    write_report(lake, failed(1, "plain"))
    plain = Page(user.get("/").text)
    write_report(lake, failed(0, name[:200]))
    (lake / "reports" / f"run={SLUGS[1]}" / "report.json").unlink()
    page = Page(user.get("/").text)
    assert (page.tags, page.contents) == (plain.tags, plain.contents)
    assert [attribute for attribute, _ in page.attributes] == [attribute for attribute, _ in plain.attributes]
    assert name[:200] in page.text


def test_a_damaged_report_is_left_out_and_the_others_are_shown() -> None:
    damaged = {"run": SLUGS[1], "state": "success", "changes": {}, "k": 1}
    assert [row.run for row in build_rows([damaged, published(0)])] == [SLUGS[0]]


def test_trends_are_those_of_the_runs_that_have_published_the_oldest_first() -> None:
    reports = [published(0, rejects=2), unchanged(1), failed(2, "x"), published(3, rejects=6), published(4, rejects=4)]
    trend = draw_trends(build_rows([dict(report) for report in reports]))["rejected"]
    assert trend is not None
    assert trend.text == "3 runs: from 2 to 4, lowest 2, highest 6"


def test_a_trend_goes_from_left_to_right_and_up_for_larger_values() -> None:
    trend = draw([1, 3, 2], ["one", "three", "two"])
    assert trend is not None
    points = [tuple(map(float, point.split(","))) for point in trend.points.split()]
    assert points == [(3, 25), (48, 3), (93, 14)]
    assert trend.last == points[-1]
    flat = draw([5, 5], ["5", "5"])
    assert flat is not None
    assert flat.points == "3.0,14.0 93.0,14.0"
    assert draw([1], ["1"]) is None
