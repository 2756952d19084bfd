"""The history of a lake: a row per successful run, for people and for programs."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from include.lake.layout import Lake
from include.records import HistoryRow
from include.reports.__main__ import main
from include.reports.history import COLUMNS, format_json, format_table, read_history
from include.reports.report import add_failures, build_report, report_line
from tests.include.price_tables import instances_without, prices
from tests.include.run_records import (
    MODEL_FILE,
    PREVIOUS,
    cost_record,
    failure_report,
    featurize_summary,
    found_record,
    kept_basis_record,
    manifest,
    pca_summary,
    run_record,
    unchanged_report,
)

SLUGS = [f"202611{day}T120000Z-0123abcd" for day in range(10, 30)]
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "lake.md"
UNCHANGED = unchanged_report(run=SLUGS[1], published_run=SLUGS[0], basis={"digest": "be" * 32, "since": SLUGS[0]})


def write(lake: Path, report: Any) -> None:
    path = lake / "reports" / f"run={report['run']}" / "report.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(report_line(report))


def published(slug: str, *, new: int = 4, finished_at: str = "2026-11-22T12:05:00+00:00", **changes: Any) -> Any:
    """The report of a run with three images of four files."""
    run = run_record(slug=slug, opened_at="2026-11-22T12:00:00+00:00")
    found = found_record(run=slug, new=new, changed=2, gone=1, work=new)
    parts = {"featurize": featurize_summary(featurized=new), "pca": pca_summary(variance_reached=0.9)} | changes
    return build_report(manifest(run=run, found=found, finished_at=finished_at, **parts))


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with two published runs, one with nothing to do, and some that are no rows."""
    lake = tmp_path / "lake é#%20+"
    first = published(SLUGS[0], cost=cost_record())
    first["basis"] = None  # as of a version of the jobs without kept bases
    write(lake, first)
    write(lake, UNCHANGED)
    kept = pca_summary(variance_reached=0.9, basis=kept_basis_record())
    unknown = cost_record(prices=prices(instances=instances_without("c7g.2xlarge", "emr_usd_per_hour")))
    write(lake, published(SLUGS[2], cost=unknown, finished_at="2026-11-24T12:05:30+00:00", new=1, pca=kept))
    write(lake, failure_report(run=SLUGS[3]))
    write(lake, add_failures(published(SLUGS[4]), []))
    old = published(SLUGS[5])
    del old["changes"]  # the first version of the lake
    write(lake, old)
    (lake / "reports" / f"run={SLUGS[6]}").mkdir()
    return lake


EXPECTED = [
    {
        "run": SLUGS[0],
        "finished_at": "2026-11-22T12:05:00+00:00",
        "images": 3,
        "new": 4,
        "changed": 2,
        "gone": 1,
        "rejected": 1,
        "featurized": 4,
        "k": 2,
        "variance": 0.9,
        "basis": None,
        "since": SLUGS[0],
        "seconds": 300.0,
        "cluster": "j-1",
        "eur": 0.6945,
    },
    {
        "run": SLUGS[1],
        "finished_at": "2026-11-23T12:00:12+00:00",
        "images": 1_234_567,
        "new": 0,
        "changed": 0,
        "gone": 0,
        "rejected": 3,
        "featurized": 0,
        "k": 40,
        "variance": 0.801234,
        "basis": "be" * 32,
        "since": SLUGS[0],
        "seconds": 12.3,
        "cluster": None,
        "eur": 0.0,
    },
    {
        "run": SLUGS[2],
        "finished_at": "2026-11-24T12:05:30+00:00",
        "images": 3,
        "new": 1,
        "changed": 2,
        "gone": 1,
        "rejected": 1,
        "featurized": 1,
        "k": 2,
        "variance": 0.9,
        "basis": hashlib.sha256(MODEL_FILE).hexdigest(),
        "since": PREVIOUS,
        "seconds": 173_130.0,
        "cluster": "j-1",
        "eur": None,
    },
]


def test_history_has_successful_runs_and_those_with_nothing_to_do_in_the_order_of_time(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--lake", str(lake), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == [EXPECTED[0] | {"eur": pytest.approx(0.6945, abs=1e-4)}, *EXPECTED[1:]]
    assert [list(row) for row in found] == [list(HistoryRow.__annotations__)] * 3 == [list(COLUMNS)] * 3
    assert all(type(row["featurized"]) is int and type(row["seconds"]) is float for row in found)
    text = DOCUMENT.read_text(encoding="utf-8").partition("## History")[2]
    documented = re.findall(r"`(\w+)`", text.partition("list of objects:")[2])
    assert documented == list(COLUMNS)


def test_table_has_a_line_per_run_and_aligned_columns(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lake", f"file://{lake}/"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == list(COLUMNS)
    assert [line.split()[0] for line in lines] == SLUGS[:3]
    assert "1,234,567" in lines[1]
    assert lines[1].split()[-7:] == ["80.12%", "bebebebe", "2026-11-10", "12:00", "12.3", "-", "0.00"]
    assert lines[2].split()[-1] == "-"
    ends = {match.end(1) for line in lines if (match := re.match(r"\S+ +\S+ +([\d,]+) ", line))}
    assert len(ends) == 1, "numbers are aligned at the right"


def test_lake_in_a_bucket_is_read_with_the_keys_of_the_environment(
    lake: Path, lake_bucket: str, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.s3_store import use_environment

    for path in lake.rglob("report.json"):
        store.put(lake_bucket, path.relative_to(lake).as_posix(), path.read_bytes())
    use_environment(monkeypatch, store.url)
    assert read_history(Lake(f"s3://{lake_bucket}"), None) == read_history(Lake(f"file://{lake}"), None)


def test_lake_that_is_missing_or_has_no_run_is_an_error_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    for folder, kind, message in [
        ("missing", "table", "there is no lake at"),
        ("missing", "json", "there is no lake at"),
        ("empty", "table", "has no successful run yet: start one with `make run`"),
    ]:
        assert main(["--lake", folder, "--relative-to", str(tmp_path), "--format", kind]) == 1, (folder, kind)
        output = capsys.readouterr()
        assert output.out == ""
        assert f"file://{tmp_path}/{folder}" in output.err
        assert message in output.err
    assert main(["--lake", str(tmp_path / "empty"), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    monkeypatch.chdir(tmp_path)
    assert main([]) == 1
    assert f"{tmp_path}/.local/lake" in capsys.readouterr().err


def test_damaged_report_is_named(lake: Path) -> None:
    (lake / "reports" / f"run={SLUGS[0]}" / "report.json").write_text("{")
    with pytest.raises(ValueError, match=f"run={SLUGS[0]}/report.json is not JSON"):
        read_history(Lake(f"file://{lake}"), None)


def test_nothing_is_formatted_as_nothing() -> None:
    assert json.loads(format_json([])) == []
    assert format_table([]).split() == list(COLUMNS)
