"""The reports of all runs, read by Spark as one table whose partitions are the runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from include.lake.layout import Lake
from include.reports.report import build_report, report_line
from spark_jobs.quality import drift
from tests.include.run_records import (
    counts_record,
    failure_report,
    featurize_summary,
    found_record,
    manifest,
    pca_summary,
    run_record,
    unchanged_report,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")]

EVIL = "Apple Red\u2028\r\n\"1\", {'é': 2}"


def test_every_run_is_a_row_whatever_it_has_not(spark: SparkSession, tmp_path: Path) -> None:
    """With all there is; with a fixed number, no sample, no comparison; and with texts that break lines and JSON."""
    lake = Lake(tmp_path.as_uri())
    bare = pca_summary(variance_target=None, n_components=2, quality=None, drift=drift.unavailable("none"))
    texts = featurize_summary(first_rejects=[{"path": EVIL, "reason": "truncated", "detail": EVIL}])
    slugs = [f"2026112{number}T120000Z-0123abcd" for number in range(3)]
    for slug, parts in zip(slugs, [{"pca": pca_summary()}, {"pca": bare}, {"featurize": texts}], strict=True):
        run = {"run": run_record(slug=slug), "found": found_record(run=slug)}
        line = report_line(build_report(manifest(**run, **parts)))
        assert len(line.decode().splitlines()) == 1
        path = Path(lake.report(slug).removeprefix("file://"))
        path.parent.mkdir(parents=True)
        path.write_bytes(line)

    failed = "20261129T120000Z-0123abcd"
    Path(f"{tmp_path}/reports/run={failed}").mkdir()
    why = {"task": "wait_pca", "kind": "disk full", "cause": EVIL, "advice": ""}
    line = report_line(failure_report(run=failed, failed_tasks=[why]))
    Path(f"{tmp_path}/reports/run={failed}/report.json").write_bytes(line)
    counts = counts_record(new=0, work=0, work_bytes=0)
    nothing_new = unchanged_report(
        run="20261130T120000Z-0123abcd", published_run=slugs[2], images=3, changes=counts, k=2
    )
    Path(f"{tmp_path}/reports/run={nothing_new['run']}").mkdir()
    Path(f"{tmp_path}/reports/run={nothing_new['run']}/report.json").write_bytes(report_line(nothing_new))
    every_run = spark.read.json(f"{lake.root}/reports")
    [row] = every_run.where("state = 'failed'").collect()
    assert (row["run"], row["k"], row["failed_tasks"][0]["cause"]) == (failed, None, EVIL)
    [row] = every_run.where("state = 'unchanged'").collect()
    assert (row["run"], row["images"], row["featurized"], row["k"]) == (nothing_new["run"], 3, 0, 2)
    assert (row["changes"]["listed"], row["changes"]["new"], row["published_run"]) == (4, 0, slugs[2])
    table = every_run.where("state = 'success'")
    assert table.columns.count("run") == 1, "the record's own run and the partition are one column"
    rows = {row["run"]: row for row in table.collect()}
    assert sorted(rows) == slugs
    assert [rows[slug]["variance_target"] for slug in slugs] == [0.8, None, 0.8]
    assert rows[slugs[0]]["quality"]["knn_accuracy"]["features"] == pca_summary()["quality"]["knn_accuracy"]["features"]
    assert rows[slugs[1]]["quality"] is None
    assert rows[slugs[0]]["drift"]["k"]["previous"] == 2
    assert rows[slugs[1]]["drift"]["k"] is None
    assert rows[slugs[1]]["drift"]["reason"] == "none"
    assert rows[slugs[2]]["first_rejects"][0]["detail"] == EVIL
    assert table.where(f"run = '{slugs[1]}'").count() == 1
