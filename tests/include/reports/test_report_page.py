"""The page of a run: one safe file of bounded size, in two languages, with the photos of the run."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from include.lake.layout import Lake
from include.lake.objects import LakePath, write_bytes, write_json
from include.reports import publishing
from include.reports.report import LIBRARY, build_report, render_report, report_line
from spark_jobs.insights import thumbnails
from tests.include.hostile_names import HOSTILE
from tests.include.report_page import Page
from tests.include.run_records import SLUG, cost_record, insights_record, manifest, pca_summary


def source_of(insights: Any = None, history: Any = (), **changes: Any) -> str:
    return render_report(build_report(manifest(**changes)), insights, history)


def test_page_needs_no_other_file_and_runs_no_other_script() -> None:
    source = source_of(insights_record(), cost=cost_record())
    page = Page(source)
    assert {name for name, _ in page.attributes if name in {"src", "srcset", "style"} or name.startswith("on")} == set()
    links = {value for name, value in page.attributes if name == "href"}
    assert links == {f"pca/insights/{name}.csv" for name in ("unlike_label", "outliers", "duplicates")}
    [policy] = [value for name, value in page.attributes if name == "content" and "default-src" in str(value)]
    directives = dict(item.strip().split(" ", 1) for item in str(policy).split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for tag, name in (("script", "script-src"), ("style", "style-src")):
        contents = page.contents[tag][1:] if tag == "script" else page.contents[tag]  # the first script is data
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in contents]
        assert directives[name] == " ".join(f"'sha256-{digest}'" for digest in digests)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_labels_and_names_change_nothing_but_the_text(name: str) -> None:
    plain = Page(source_of(insights_record()))
    page = Page(source_of(insights_record(labels=[name, "Plum"], names=[name, "2.jpg"])))
    assert page.tags == plain.tags
    assert [attribute for attribute, _ in page.attributes] == [attribute for attribute, _ in plain.attributes]
    assert page.data["labels"] == [name, "Plum"]
    assert page.data["photos"][0][0] == f"{name}/0{name}"
    assert name in page.text


def test_page_is_smaller_than_5_mb_for_the_largest_insights() -> None:
    """As many photos as the job shows, the largest thumbnails, and names of 1,024 characters that JSON escapes."""
    thumbnail = base64.b64encode(b"x" * thumbnails.MAX_BYTES).decode()
    for name, minimum in (("1.jpg", 1_400), ("\u2028<" * 340, 0)):
        insights = insights_record(photos=1_400, thumbnail=thumbnail, names=[name], labels=[f"{n}" for n in range(999)])
        insights["map"]["scores"] = [[-1234.567] * 1_400] * 50
        source = source_of(insights, [history_row(number) for number in range(30)], cost=cost_record())
        assert len(source.encode()) < 5_000_000
        assert len(Page(source).data["map"]["photos"]) >= minimum
        assert len(Page(source).data["legend"]) <= 42


def history_row(number: int, **changes: Any) -> dict[str, Any]:
    report = build_report(manifest(**changes)) | {"run": f"2026112{number % 10}T120000Z-{number:08x}"}
    return dict(json.loads(report_line(report)))  # type: ignore[arg-type]


def test_page_shows_what_the_job_found() -> None:
    insights = insights_record()
    page = Page(source_of(insights))
    text = " ".join(page.text.split())
    for shown in (
        "30 of 31 photos", "labelled Kiwi, looks like Plum (5 of 5)", "1 photo is much farther", "7.2 × the usual",
        "41 groups with 99 photos", "identical files (3 photos) · different labels", "nearly the same",
        "a share of the groups was searched only", "Component 1: 70.0% of the differences",
        "For 90% it takes 3.", "For 95% it takes 5.", "All 6 photos are shown.",
    ):  # fmt: skip
        assert shown in text, shown
    numbers = [int(str(value)) for name, value in page.attributes if name == "data-photo"]
    assert numbers == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, *[0, 1] * 3, 4, 5, 0, 5]
    assert page.data["takes"] == [3, 5]
    sampled = Page(source_of({**insights, "images": 1_234}))
    assert "6 of 1,234 photos are shown, chosen at random." in " ".join(sampled.text.split())
    nothing = Page(source_of(insights_record(thumbnail=None)))
    assert nothing.text.count("no picture") == len(numbers) - 1  # a reject has a picture or is not shown
    assert "no map and no pictures" in Page(source_of(None)).text


def test_every_sentence_is_in_both_languages() -> None:
    source = source_of(insights_record(), cost=cost_record())
    page = Page(source)
    assert page.languages[::2] == ["en"] * (len(page.languages) // 2)
    assert page.languages[1::2] == ["fr"] * (len(page.languages) // 2)
    french = " ".join(Page(source, "fr").text.split())
    for shown in (
        "Une carte des photos",
        "1 280 nombres",
        "90,0 %",
        "41 groupes de 99 photos",
        "7,2 × la distance",
    ):
        assert shown in french, shown
    # The texts that JavaScript writes have the same keys in both languages.
    script = page.contents["script"][-1]
    keys = [
        re.findall(r"(\w+): \"", script.partition(f"    {code}: {{")[2].partition("    },")[0]) for code in ("en", "fr")
    ]
    assert keys[0] == keys[1]
    assert len(keys[0]) > 20


def test_the_charts_show_the_figures_and_the_limits_of_each_run() -> None:
    rows = [history_row(number, cost=cost_record()) for number in range(2)]
    rows[0]["quality"] = rows[0]["drift"] = None
    first, second = Page(source_of(None, rows)).data["history"]
    assert (first["accuracy_components"], first["mean_shift"], first["mean_shift_limit"]) == (None, None, None)
    drift, accuracy = rows[1]["drift"], rows[1]["quality"]["knn_accuracy"]
    assert second["accuracy_components"] == accuracy["components"]
    assert second["variance_change"] == abs(drift["variance_change"]["value"])
    assert second["mean_shift_limit"] == drift["mean_shift"]["by_chance"] + drift["threshold"]
    assert second["eur"] == pytest.approx(0.6945)


def test_the_library_is_the_published_file() -> None:
    """The digest of ``package/dist/d3.min.js`` in the package d3 7.9.0 of npm."""
    digest = hashlib.sha256(Path(publishing.__file__).with_name("assets").joinpath(LIBRARY).read_bytes()).hexdigest()
    assert digest == "f2094bbf6141b359722c4fe454eb6c4b0f0e42cc10cc7af921fc158fceb86539"


class LakeOfRuns:
    """A lake with reports of earlier runs."""

    def __init__(self, root: str) -> None:
        self.lake = Lake(root)
        self.report = build_report(manifest())

    def add(self, slug: str, **changes: Any) -> None:
        write_json(LakePath(self.lake.report(slug)), {**json.loads(report_line(self.report)), "run": slug, **changes})

    def write(self) -> Page:
        publishing.write_report(self.lake, self.report, None)
        page = LakePath(self.lake.run(SLUG).report_html).read_bytes().decode()
        written = json.loads(LakePath(self.lake.run(SLUG).report_json).read_bytes())
        assert written == json.loads(json.dumps(self.report))
        return Page(page)


@pytest.fixture
def lake(tmp_path: Any) -> LakeOfRuns:
    return LakeOfRuns(f"file://{tmp_path}")


def test_the_charts_have_the_last_runs_that_published_before_this_one(lake: LakeOfRuns) -> None:
    slugs = [f"202611{day:02d}T{hour:02d}0000Z-0123abcd" for day, hour in itertools.product(range(1, 22), (6, 18))]
    for number, slug in enumerate(slugs):
        lake.add(slug, state="failed" if number == 40 else "success")
    lake.add("20261130T000000Z-0123abcd")  # a later run, whose report exists already
    write_bytes(LakePath(lake.lake.report(slugs[39])), b"{ damaged")
    shown = [run["run"] for run in lake.write().data["history"]]
    expected = [slug for number, slug in enumerate(slugs) if number not in (39, 40)]
    assert shown == [*expected[-(publishing.CHARTED_RUNS - 1) :], SLUG]


def test_insights_are_shown_and_damaged_ones_never_fail_a_run(lake: LakeOfRuns) -> None:
    assert "no map and no pictures" in lake.write().text
    path = LakePath(lake.lake.run(SLUG).insights)
    write_json(path, insights_record())
    assert "Kiwi" in lake.write().text
    write_json(path, {"photos": "of another version"})
    page = lake.write()
    assert "the report has no map and no photos: KeyError" in page.text
    assert "truncated" in page.text
    write_bytes(path, b"{ half")
    assert "no map and no pictures" in lake.write().text


def test_the_curve_reaches_beyond_the_kept_components() -> None:
    curve = np.array(insights_record()["variance_curve"])
    page = Page(source_of(insights_record(), pca=pca_summary()))
    assert page.data["k"] == 2
    assert page.data["curve"] == curve.tolist()
    assert page.data["takes"] == [int(np.searchsorted(curve, target)) + 1 for target in (0.9, 0.95)]
