"""The DAG through Airflow on the local EMR endpoint: a run that succeeds."""

import csv
import ipaddress
import json
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA

from tests.end_to_end.conftest import RUN_DATE
from tests.include.report_page import Page

pytestmark = pytest.mark.slow

IMAGES = 25  # 4 labels x 6, and the hidden one


def test_every_task_succeeds(published):
    _, outcome = published
    assert outcome.state.state == "success"
    assert set(outcome.state.tasks.values()) == {"success"}


def test_cluster_is_terminated(published):
    _, outcome = published
    assert [cluster["Status"]["State"] for cluster in outcome.clusters] == ["TERMINATED"]


def test_results_have_the_columns_of_the_notebook_and_one_row_per_image(published):
    lake, _ = published
    results = pd.read_parquet(lake / "results")
    assert list(results.columns) == ["path", "label", "features"]
    assert len(results) == IMAGES
    assert results["path"].is_unique
    assert {len(features) for features in results["features"]} == {1280}
    assert results["features"][0].dtype == np.float32
    assert set(results["label"]) == {"Pomme d'été", "Kiwi 100%", "Lime #1+2", "Banana"}


def test_paths_are_the_paths_of_the_files(published):
    lake, _ = published
    paths = {path.removeprefix("file://") for path in pd.read_parquet(lake / "results")["path"]}
    assert paths == {str(path) for path in (lake / "data").glob("*/*")}


def test_csv_has_the_columns_of_the_notebook(published):
    lake, _ = published
    table = pd.read_csv(lake / "results_csv" / "pca_features.csv")
    k = json.loads((lake / "current.json").read_text())["k"]
    assert list(table.columns) == [*(f"F {number}" for number in range(1, k + 1)), "label"]
    assert len(table) == IMAGES
    with (lake / "results_csv" / "pca_features.csv").open(newline="", encoding="utf-8") as stream:
        assert next(csv.reader(stream)) == list(table.columns)


def test_components_equal_scikit_learn(published):
    lake, _ = published
    state = json.loads((lake / "current.json").read_text())
    features = np.concatenate([np.stack(pd.read_parquet(lake / name)["features"]) for name in state["features"]])
    features = features.astype(np.float64)
    reference = PCA(svd_solver="full").fit(features)
    k = int(np.searchsorted(np.cumsum(reference.explained_variance_ratio_), 0.80) + 1)
    scores = np.stack(pq.read_table(lake / state["scores"])["components"].to_pylist())
    assert scores.shape == (IMAGES, k)
    expected = features @ reference.components_[:k].T
    signs = np.sign((expected * scores).sum(axis=0))
    assert np.abs(scores - expected * signs).max() <= 1e-6 * np.abs(expected).max()


def test_manifest_names_inputs_code_model_and_cluster(published):
    lake, outcome = published
    current = json.loads((lake / "current.json").read_text())
    manifest = json.loads((lake / current["manifest"]).read_text())
    assert manifest["run_id"] == outcome.state.run_id
    assert manifest["featurize"]["features"] == IMAGES
    assert (lake / "code" / manifest["code"] / "spark_jobs.zip").is_file()
    assert (lake / "models" / manifest["model"]["digest"][:16] / "model.tflite").is_file()
    assert manifest["cluster"]["id"] == outcome.clusters[0]["Id"]


def test_manifest_has_residency_and_cost(published):
    lake, outcome = published
    [folder], [file] = (lake / "runs").iterdir(), (lake / "manifests").iterdir()
    manifest = json.loads(file.read_text())
    assert manifest["residency"]["before"]["verdict"] == "allowed"
    assert manifest["residency"]["cluster"]["cluster_id"] == outcome.clusters[0]["Id"]
    assert manifest["forecast"]["images"] == 25
    cost = json.loads((folder / "cost.json").read_text())
    assert manifest["cost"] == cost
    assert [fleet["fleet"] for fleet in cost["fleets"]] == ["MASTER"]
    assert all(fleet["hours"] > 0 for fleet in cost["fleets"])
    assert 0 < cost["eur"]["low"] < 1, "a minute of small machines"
    assert "nothing was paid" in cost["notes"][0]
    assert "Cost: " in outcome.log


def test_few_photos_get_a_single_node_and_the_manifest_has_plan_and_outcome(published):
    lake, outcome = published
    [file] = (lake / "manifests").iterdir()
    sizing = json.loads(file.read_text())["sizing"]
    plan, done = sizing["plan"], sizing["outcome"]
    assert (plan["core_nodes"], plan["task_nodes"], plan["vcpus"]) == (0, 0, 4)
    assert plan["images"] == done["images"] == done["listed"] == IMAGES
    assert plan["bytes"] == done["bytes"] == sum(path.stat().st_size for path in (lake / "data").glob("*/*"))
    assert 0 < done["featurize_seconds"] + done["pca_seconds"] + done["start_and_stop_seconds"] <= done["seconds"] + 0.2
    assert done["images_per_second_per_vcpu"] > 0
    for name in ("eur", "start_and_stop_eur", "eur_per_image_at_the_margin", "eur_per_image"):
        assert plan[name]["low"] > 0, name
        assert done[name]["low"] > 0, name
    assert f"Plan: {IMAGES} of {IMAGES} images" in outcome.log
    assert "Outcome: " in outcome.log


def test_report_is_a_page(published):
    lake, _ = published
    run = lake / "runs" / json.loads((lake / "current.json").read_text())["run"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert f"{IMAGES}images" in Page(page).text
    assert len(Page(page).data["map"]["photos"]) == IMAGES, "each image is on the map"


def test_only_loopback_is_contacted_with_a_real_account_in_the_shell(published):
    lake, outcome = published
    assert outcome.connections, "the audit recorded no connection, not even to the endpoint"
    assert all(ipaddress.ip_address(host).is_loopback for host in outcome.connections)
    # Airflow resolves the name of its own machine.
    assert outcome.lookups <= {"localhost", "127.0.0.1", socket.gethostname(), socket.getfqdn()}
    assert not (lake.parent / "credentials_were_asked_for").exists()


def test_a_repeated_run_publishes_the_same_rows_and_keeps_its_first_files(bench, published, published_copy, tmp_path):
    outcome = bench.run(published_copy, tmp_path, rerun_of=RUN_DATE)
    assert outcome.state.state == "success", outcome.log[-3000:]
    assert outcome.state.run_id == published[1].state.run_id
    first, second = contents(published[0]), contents(published_copy)
    assert first["results"] == second["results"]
    assert first["csv"] == second["csv"]
    assert first["files"] == second["files"]
    assert len(second["results"]) == IMAGES
    [original, repetition] = second["runs"]
    assert [original] == first["runs"]
    assert repetition.startswith(f"{original}-"), "the repetition writes into a folder of its own"
    for path in (published[0] / "runs" / original).rglob("*.parquet"):
        copied = published_copy / path.relative_to(published[0])
        assert copied.read_bytes() == path.read_bytes(), "the files of the first state are unchanged"


def contents(lake: Path) -> dict:
    """Return what a run wrote, without times and without the lake's own place."""
    results = pd.read_parquet(lake / "results").sort_values("path")
    run = lake / "runs" / json.loads((lake / "current.json").read_text())["run"]
    prefix = f"file://{lake}/"
    return {
        "results": [(row.path.removeprefix(prefix), row.label, row.features.tobytes()) for row in results.itertuples()],
        "csv": (lake / "results_csv" / "pca_features.csv").read_bytes(),
        "files": sorted(str(path.relative_to(run)) for path in run.glob("*")),
        "runs": sorted(path.name for path in (lake / "runs").iterdir()),
    }
