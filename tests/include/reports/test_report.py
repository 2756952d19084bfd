"""The report shows the figures of every run, escapes every text, and is one row of the table of all reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.records import Report
from include.reports.report import (
    MAX_LABELS,
    build_report,
    render_report,
    report_line,
)
from spark_jobs.left_out import LeftOutCounter, warn
from spark_jobs.quality import drift
from tests.include.cluster_answers import INSTANCES
from tests.include.price_tables import instances_without, prices
from tests.include.report_page import Page
from tests.include.run_records import (
    PREVIOUS,
    basis_record,
    cost_record,
    drift_record,
    featurize_summary,
    kept_basis_record,
    manifest,
    pca_summary,
    plan_record,
    quality_record,
    run_record,
)

EVIL = "<script>alert('\"&')</script>"


def page_of(**changes: Any) -> Page:
    return Page(render_report(build_report(manifest(**changes)), None, []))


TAGS = page_of().tags
WITHOUT_EMR = prices(instances=instances_without("c7g.2xlarge", "emr_usd_per_hour"))


def test_report_shows_the_figures() -> None:
    page = page_of()
    text = " ".join(page.text.split())
    for shown in ("3images", "1rejects", "2components", "90.0%of the variance", "truncated", "j-1", "feedface"):
        assert shown.replace(" ", "") in text.replace(" ", ""), shown


def test_report_names_the_labels_that_lose_all_their_files_and_counts_what_is_left_out() -> None:
    job, loader = LeftOutCounter(), LeftOutCounter()
    job.skip("1.png", "banana", at_top=False)
    job.hidden = 1_234
    loader.skip("1.heic", EVIL, at_top=False)
    loader.unreadable.append("/photos/gone.jpg (No such file)")
    left_out = [job.record("file:///lake/data", "*.jpg"), loader.record("/photos", "*.jpg")]
    warnings = [warning for item in left_out for warning in warn(item)]
    page = page_of(
        featurize=featurize_summary(skipped=1, hidden=1_234, left_out=left_out),
        verified={"warnings": warnings},
    )
    assert page.tags.count("script") == TAGS.count("script")
    for shown in (
        "2 skipped and 1,234 hidden files are neither images nor rejects",
        "1 file in file:///lake/data left out by name, not matching '*.jpg': 1 .png",
        "1234 hidden or system files in file:///lake/data left out (include_hidden=true includes them)",
        "1 file in /photos left out by name, not matching '*.jpg': 1 .heic",
        "reading failed; the first is /photos/gone.jpg",
        "labels without any image: banana",
        f"labels without any image: {EVIL}",
        *warnings,
    ):
        assert shown in page.text, shown
    assert all("image_pattern=all includes 1 of the 1 skipped file" in warning for warning in warnings)
    assert "left out" not in page_of().text


def test_every_text_is_escaped() -> None:
    """One page with a script in every text that comes from outside."""
    rejects = [{"path": EVIL, "reason": EVIL, "detail": EVIL}]
    label = {"label": EVIL, "images": 2, "features": 1.0, "components": 0.5}
    run = run_record(images=EVIL, previous={"run": EVIL, "pca_model": None, "note": None})
    run["params"]["image_pattern"] = run["model"]["digest"] = EVIL
    run["residency"]["checks"][0]["answer"] = EVIL
    cost = cost_record(prices=WITHOUT_EMR)
    cost["notes"] = cost["unknown"] = [EVIL]
    cost["prices"]["table"] = EVIL
    quality = quality_record(by_label=[label])
    quality["silhouette"] |= {"note": EVIL}
    changes = {
        "run": run,
        "cost": cost,
        "verified": {"warnings": [EVIL]},
        "featurize": featurize_summary(first_rejects=rejects, rejects_by_reason={EVIL: 1}),
    }
    page = page_of(**changes, pca=pca_summary(quality=quality))
    assert page.tags.count("script") == TAGS.count("script")
    assert page.text.count(EVIL) == 16, "every text is shown"
    page = page_of(**changes, pca=pca_summary(drift=drift.unavailable(EVIL)))
    assert page.tags.count("script") == TAGS.count("script")
    assert f"No comparison: {EVIL}." in page.text


@pytest.mark.slow
@settings(max_examples=15)
@given(st.text(max_size=40), st.text(max_size=40))
def test_no_path_or_reason_changes_a_tag(path: str, reason: str) -> None:
    rejects = [{"path": path, "reason": reason, "detail": path}]
    page = page_of(featurize=featurize_summary(first_rejects=rejects, rejects_by_reason={reason: 1}))
    assert page.tags == TAGS


def test_every_run_has_a_report_and_a_curve() -> None:
    for featurize, pca in [
        (featurize_summary(listed=3, rejects=0, rejects_by_reason={}, first_rejects=[]), pca_summary()),
        (featurize_summary(), pca_summary(k=1, explained_variance_ratio=[0.0], variance_reached=0.0)),
        (featurize_summary(), pca_summary(k=1, explained_variance_ratio=[1.0], variance_reached=1.0)),
        (featurize_summary(features=1_234_567), pca_summary(k=1280, explained_variance_ratio=[1 / 1280] * 1280)),
        (featurize_summary(), pca_summary(variance_target=None, n_components=2)),
        (featurize_summary(), pca_summary(quality=None, drift=drift.unavailable("none"))),
    ]:
        page = page_of(featurize=featurize, pca=pca)
        assert ("Rejects" in page.text) == bool(featurize["rejects"])
        assert ("Are the components enough?" in page.text) == bool(pca["quality"])
        np.testing.assert_allclose(page.data["curve"], np.cumsum(pca["explained_variance_ratio"]))


def test_page_shows_what_the_components_lose() -> None:
    quality = quality_record()
    page = page_of()
    accuracy, silhouette = quality["knn_accuracy"], quality["silhouette"]
    assert 0 < accuracy["components"] < 1, "other values would prove little"
    assert page.row("images whose label") == [f"{accuracy['features']:.1%}", f"{accuracy['components']:.1%}"]
    assert page.row("silhouette") == [f"{silhouette['features']:.3f}", f"{silhouette['components']:.3f}"]
    assert page.row("variance missed") == ["0.0%", f"{quality['reconstruction']['variance_missed']:.1%}"]
    assert page.row("reconstruction error") == ["0.000", f"{quality['reconstruction']['rmse']:.3f}"]
    assert "a sample of 40 of the 40 images, with 3 labels" in page.text


def test_labels_with_the_largest_loss_come_first_and_labels_without_loss_are_omitted() -> None:
    losses = [0.0, 0.25, 0.5, *[0.125] * MAX_LABELS]
    labels = [{"label": f"L{n}", "images": 8, "features": 1.0, "components": 1 - loss} for n, loss in enumerate(losses)]
    labels.append({"label": "alone", "images": 1, "features": None, "components": None})
    page = page_of(pca=pca_summary(quality=quality_record(by_label=labels)))
    names = [row[0] for row in page.rows if row and re.match(r"L\d|alone", row[0])]
    assert names[:2] == ["L2", "L1"]
    assert len(names) == MAX_LABELS
    assert not {"L0", "alone"} & set(names)
    assert page.row("L2") == ["8", "100.0%", "50.0%"]


def test_undefined_quality_is_a_dash_with_the_reason() -> None:
    nothing = {"features": None, "components": None, "note": "two labels or more are needed"}
    quality = quality_record(
        labels=1,
        knn_accuracy=nothing | {"asked": 0, "lost": 0, "gained": 0},
        silhouette=nothing,
        reconstruction={"variance_missed": None, "rmse": 0.0, "note": "there is no variance to miss"},
        by_label=[{"label": "Kiwi", "images": 1, "features": None, "components": None}],
    )
    page = page_of(pca=pca_summary(quality=quality))
    assert page.row("images whose label") == page.row("silhouette") == ["—", "—"]
    assert page.row("variance missed") == ["0.0%", "—"]
    assert page.text.count("two labels or more are needed") == 1
    assert "there is no variance to miss" in page.text
    assert "get the right label only" not in page.text


def test_page_shows_the_comparison_with_the_previous_run() -> None:
    record = drift_record(threshold=0.9)
    page = page_of(pca=pca_summary(drift=record))
    assert f"The previous run is {PREVIOUS}." in page.text
    assert ["images", "30 → 40", ""] in page.rows
    assert page.row("components") == ["2 → 2", ""]
    shift, change = record["mean_shift"], record["variance_change"]
    assert page.row("shift of the mean") == [f"{shift['value']:.3f}", f"{shift['by_chance']:.3f}"]
    assert page.row("change of the total variance") == [f"{change['value']:+.1%}", f"± {change['by_chance']:.1%}"]
    assert page.row("principal angles")[0].endswith(f"largest {record['largest_angle']:.1f}°")
    assert ("class", "over") not in page.attributes


def test_page_shows_the_basis_and_since_which_run_it_is_in_use() -> None:
    kept = kept_basis_record()
    page = page_of(pca=pca_summary(basis=kept))
    assert f"The components have been in use since the run {PREVIOUS}; the scores of 2 unchanged" in page.text
    assert f"Those that the run {PREVIOUS} has fitted. Digest: {kept['digest']}" in page.text
    assert f"since the components of the run {PREVIOUS} were fitted" in page.text
    shift = kept["drift"]["mean_shift"]
    assert [row[1] for row in page.rows if row[0].startswith("shift of the mean")].count(f"{shift['value']:.3f}") == 2
    assert "old component" not in page.text
    old = pca_summary()
    del old["basis"]
    assert "Which components are in use" not in page_of(pca=old).text


def test_page_of_a_run_that_fitted_again_says_why_and_maps_the_old_axes_to_the_new_ones() -> None:
    axes = [{"new": n % 3 + 1, "cosine": -0.25 * n / 30, "inside": 0.5} for n in range(30)]
    page = page_of(pca=pca_summary(basis=basis_record(why_fitted="the drift exceeds 0.1", axes=axes)))
    assert "This run has computed the components from all photos: all scores are new." in page.text
    assert "They should have been kept, but were fitted again: the drift exceeds 0.1." in page.text
    assert f"The map from the components of the run {PREVIOUS} to the new ones:" in page.text
    rows = [row for row in page.rows if len(row) == 4 and row[0].isdecimal()]
    assert rows[:2] == [["1", "1", "-0.000", "50.0%"], ["2", "2", "-0.008", "50.0%"]]
    assert len(rows) == 20
    assert "All 30 are in report.json." in page.text


def test_rows_are_marked_exactly_where_the_job_warns() -> None:
    for shift in (0, 0.05, 0.2, 0.5, 3):
        record = drift_record(shift)
        page = page_of(pca=pca_summary(drift=record), verified={"warnings": record["warnings"]})
        warned = sum(f"({name} " in "".join(record["warnings"]) for name in drift.MEASURES)
        assert page.attributes.count(("class", "over")) == warned
        assert ("drift since the previous run" in page.text) == bool(warned)
    assert warned


def test_undefined_measures_are_named_as_such() -> None:
    record = drift_record() | {name: {"value": None, "by_chance": None} for name in drift.MEASURES}
    record |= {"principal_angles": [], "largest_angle": None, "subspace_distance": None, "variance_explained": None}
    page = page_of(pca=pca_summary(drift=record))
    for first in ("shift of the mean", "change of the total variance", "variance that the previous"):
        assert page.row(first)[0] == "not defined: there is no variance"


def test_the_note_of_open_run_replaces_the_reason_of_the_job() -> None:
    """The job only knows that it has no previous model."""
    previous = {"run": None, "pca_model": None, "note": "no run had been published before"}
    changes = {"run": run_record(previous=previous), "pca": pca_summary(drift=drift.unavailable("no model was given"))}
    assert "No comparison: no run had been published before." in page_of(**changes).text
    assert build_report(manifest(**changes))["drift"]["reason"] == "no run had been published before"
    assert "No comparison: not a PCA." in page_of(pca=pca_summary(drift=drift.unavailable("not a PCA"))).text


def test_random_weights_are_named_at_the_top_of_the_page() -> None:
    page = page_of(run=run_record(model=run_record()["model"] | {"weights": {"source": "random"}}))
    assert "RANDOM WEIGHTS" in page.text.partition("images")[0]
    assert "RANDOM" not in page_of().text


def test_report_has_the_fields_of_its_record() -> None:
    assert set(build_report(manifest())) == set(Report.__annotations__)


def test_page_shows_the_cost_per_fleet_and_market() -> None:
    page = page_of(cost=cost_record())
    assert ["master", "on demand", "1", "1.00", "0.13 €"] in page.rows
    assert ["core", "on demand", "2", "2.00", "0.51 €"] in page.rows
    assert ["task", "spot", "1", "0.50", "0.05 €"] in page.rows
    assert page.row("total, with S3 requests") == ["", "", "3.50", "0.69 €"]
    assert page.row("storage of the run's files") == ["", "", "", "0.50 €"]
    assert "14,398 images per euro" in " ".join(page.text.split())
    assert "Prices of 2026-11-02 for eu-west-3 (test.json), 1 USD = 0.5 € on 2026-11-01" in page.text
    assert "Forecast before the start:" in page.text
    assert "total is incomplete" not in page.text


def test_page_names_unknown_prices() -> None:
    page = page_of(cost=cost_record(prices=WITHOUT_EMR), plan=plan_record(instances={}))
    text = " ".join(page.text.split())
    assert "The total is incomplete, because these prices are unknown: EMR's surcharge on c7g.2xlarge." in text
    assert page.row("total, with S3 requests")[-1] == "at least 0.59 €"
    assert "At most" in text


def test_page_shows_where_the_data_is_and_an_unknown_cost() -> None:
    page = page_of()
    assert page.row("region of the bucket, by HeadBucket") == ["FRUITS_LAKE", "the-lake", "eu-west-3"]
    assert "profile local: the cluster is on this machine" in page.text
    assert "The cost is unknown" in page.text


@pytest.mark.parametrize("first", ["none", "unknown", "known"])
def test_money_in_the_table_of_all_reports_is_numeric_whichever_run_comes_first(tmp_path: Path, first: str) -> None:
    """A column that is always null in a file would have no type, and the table could not be read."""
    parts: dict[str, dict[str, Any]] = {
        "none": {"cost": None},
        "unknown": {"cost": cost_record(prices=WITHOUT_EMR, instances=INSTANCES[:2])},
        "known": {"cost": cost_record()},
    }
    rows = {}
    for number, name in enumerate(sorted(parts, key=lambda name: (name != first, name))):
        rows[name] = json.loads(report_line(build_report(manifest(**parts[name]))))
        money = {key: value for key, value in rows[name].items() if "eur" in key or "usd" in key or "hours" in key}
        assert all(type(value) is float for value in money.values())
        (tmp_path / f"{number}.json").write_bytes(json.dumps(money | {"run": name}).encode() + b"\n")
    assert not {"residency", "forecast", "cost"} & set(rows["known"])
    assert rows["known"]["cost_eur_at_most"] == pytest.approx(0.6945)
    assert rows["known"]["images_per_eur_at_least"] == pytest.approx(14398.3)
    assert "cost_eur_at_most" not in rows["unknown"]
    assert rows["unknown"]["cost_eur_at_least"] > 0
    table = pd.concat(pd.read_json(path, lines=True) for path in sorted(tmp_path.glob("*.json")))
    assert table.set_index("run").loc["known", "instance_hours"] == 3.5
    schemas = [pyarrow.dataset.dataset(path, format="json").schema for path in sorted(tmp_path.glob("*.json"))]
    schema = pyarrow.unify_schemas(schemas)
    assert {str(schema.field(name).type) for name in schema.names if name != "run"} <= {"double"}
    read = pyarrow.dataset.dataset(tmp_path, format="json", schema=schema).to_table().to_pylist()
    assert {row["run"]: row.get("cost_eur_at_most") for row in read}["none"] is None
