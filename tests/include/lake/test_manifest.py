"""The run's record."""

from __future__ import annotations

import json

from tests.include.run_records import cost_record, forecast_record, manifest, residency_record, run_record


def test_manifest_says_what_was_made_from_what_with_which_code_and_weights() -> None:
    record = json.loads(json.dumps(manifest()))
    assert record["run"] == run_record()["slug"]
    assert record["run_id"] == run_record()["run_id"], "the raw id is nowhere else"
    assert record["images_folder"] == "file:///lake/data"
    assert record["code"] == "feedface"
    assert record["model"]["digest"] == "ab" * 32
    assert record["cluster"] == {"id": "j-1", "name": run_record()["cluster_name"]}
    assert record["results"] == ["part-0.parquet"]
    assert record["featurize"]["listed"] == 4
    assert record["pca"]["k"] == 2
    assert record["endpoints"] == run_record()["endpoints"]


def test_random_weights_are_the_first_warning() -> None:
    model = run_record()["model"] | {"weights": {"source": "random"}}
    warnings = manifest(run=run_record(model=model), checked={"warnings": ["another"]})["warnings"]
    assert warnings[0].startswith("RANDOM WEIGHTS")
    assert warnings[1:] == ["another"]


def test_real_weights_make_no_warning_and_building_changes_nothing_that_was_given() -> None:
    checked = {"warnings": ["the variance target was not reached"]}
    assert manifest(checked=checked)["warnings"] == ["the variance target was not reached"]
    manifest(run=run_record(model=run_record()["model"] | {"weights": {"source": "random"}}), checked=checked)
    assert checked == {"warnings": ["the variance target was not reached"]}


def test_manifest_says_where_the_data_was_and_what_it_has_cost() -> None:
    parts = {"residency": residency_record(), "forecast": forecast_record(), "cost": cost_record()}
    record = json.loads(json.dumps(manifest(**parts)))
    assert {name: record[name] for name in parts} == parts
    assert record["residency"]["before"]["verdict"] == "allowed"
    assert record["cost"]["eur"]["high"] > 0
