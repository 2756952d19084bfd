"""The bodies of the DAG's Python tasks: all that can be wrong is found before anything is paid for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ClientError

from include import tasks
from include.artifacts.bundle import build_bundle
from include.lake.layout import Lake
from include.lake.models import name_published_model
from include.residency.attestation import ResidencyError
from include.settings.parameters import RunParams
from spark_jobs.args import (
    FEATURIZE_SUMMARY_FILE,
    MODEL_FILE,
    MODEL_RECORD_FILE,
    PCA_MODEL_FILE,
    PCA_SUMMARY_FILE,
    FeaturizeArgs,
    PcaArgs,
)
from tests.include.price_tables import table
from tests.include.run_folders import edit_json, write_json, write_run
from tests.include.run_records import cost_record, forecast_record, residency_record, run_record
from tests.include.service_model import problems_of

DIGEST = "ab" * 32
PLAN = {"code": "feedface", "forecast": forecast_record()}
MADE = {"cluster_id": "j-1", "attestation": residency_record()["cluster"]}


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lake with one image and a model, and the environment of the local profile."""
    root = tmp_path / "lake é#%20+"
    (root / "data" / "Kiwi").mkdir(parents=True)
    (root / "data" / "Kiwi" / "1.JPG").touch()
    folder = root / "models" / DIGEST[:16]
    folder.mkdir(parents=True)
    (folder / MODEL_FILE).write_bytes(b"TFL3")
    (folder / MODEL_RECORD_FILE).write_text(json.dumps({"digest": DIGEST, "weights": {"source": "file"}}))
    name_published_model(Lake(f"file://{root}"), DIGEST, None)
    monkeypatch.setenv("FRUITS_PROFILE", "local")
    monkeypatch.setenv("FRUITS_LAKE", f"file://{root}")
    monkeypatch.setenv("FRUITS_AWS_CONN_ID", "none")
    return root


@pytest.fixture
def open_run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return ``open_run`` in the context of a run with some parameters."""

    def call(**params: Any) -> dict[str, Any]:
        run = SimpleNamespace(run_id="manual__2026-11-22", run_after=datetime(2026, 11, 22, 12, tzinfo=UTC))
        sent = {**asdict(RunParams()), "core_instance_types": ["c7g.2xlarge"], **params}
        context = {"params": sent, "dag_run": run, "logical_date": None}
        monkeypatch.setattr(tasks, "get_current_context", lambda: context)
        return tasks.open_run()

    return call


OpenRun = Callable[..., dict[str, Any]]


def test_run_is_opened_with_all_that_later_tasks_need(lake: Path, open_run: OpenRun) -> None:
    run = json.loads(json.dumps(open_run()))  # it travels as an XCom
    assert run["slug"].startswith("20261122T120000Z-")
    assert run["slug"] in run["cluster_name"]
    assert run["images"] == f"file://{lake}/data"
    assert run["model"]["uri"] == f"file://{lake}/models/{DIGEST[:16]}"
    assert RunParams.from_params(run["params"]).core_instance_types == ("c7g.2xlarge",)
    assert set(run) == set(run_record()), "the records of these tests have to be those of the task"


@pytest.mark.usefixtures("lake")
def test_rerun_has_the_same_name(open_run: OpenRun) -> None:
    assert open_run()["slug"] == open_run()["slug"]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"FRUITS_LAKE": "bucket"}, "FRUITS_LAKE='bucket'"),
        ({"FRUITS_REGION": "us-east-1"}, "FRUITS_REGION"),
        ({"FRUITS_PROFILE": "aws"}, "AWS_ENDPOINT_URL"),
        ({"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, r"emr resolves to https://.*amazonaws\.com"),
        ({"AWS_ENDPOINT_URL_S3": "https://s3.eu-west-3.amazonaws.com"}, "s3 resolves to"),
        ({"FRUITS_MODEL": "feedface"}, "FRUITS_MODEL='feedface'"),
    ],
)
def test_wrong_environment_fails_the_first_task_for_good(
    lake: Path, open_run: OpenRun, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], message: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AirflowFailException, match=message):
        open_run()


def test_what_may_be_outside_europe_stops_a_run_before_it_touches_the_lake(
    lake: Path, open_run: OpenRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise ResidencyError(["FRUITS_LAKE='s3://american': region of the bucket is 'us-east-1', expected eu-west-3"])

    touched: list[str] = []
    monkeypatch.setattr(tasks, "check_residency", refuse)
    for name in ("check_access", "abort_uploads", "find_model", "find_previous", "count_matching_files"):
        monkeypatch.setattr(tasks, name, lambda *_, name=name, **__: touched.append(name))
    with pytest.raises(AirflowFailException, match=r"ResidencyError: Data may not leave its regions: FRUITS_LAKE="):
        open_run()
    assert touched == []


def test_missing_lake_fails_the_first_task(lake: Path, open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FRUITS_LAKE")
    with pytest.raises(AirflowFailException, match=r"FRUITS_LAKE .* is not set"):
        open_run()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"data_prefix": "new"}, r"the folder of images file://.*/new does not exist; put images at"),
        ({"data_prefix": "models"}, r"no file under file://.*/models matches '\*\.jpg,\*\.jpeg'"),
        ({"image_pattern": "*.png"}, r"no file under file://.*/data matches '\*\.png'"),
        ({"variance": 0.9}, "'variance' is not a parameter of this DAG"),
    ],
)
def test_wrong_parameters_fail_the_first_task_and_name_the_folder(
    lake: Path, open_run: OpenRun, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(AirflowFailException, match=message):
        open_run(**params)


def test_empty_folder_of_images_is_named(lake: Path, open_run: OpenRun) -> None:
    (lake / "data" / "Kiwi" / "1.JPG").unlink()
    with pytest.raises(AirflowFailException, match=r"NoImagesError: no file under file://.*/data matches"):
        open_run()


def test_missing_model_says_how_to_publish_one(lake: Path, open_run: OpenRun) -> None:
    (lake / "models" / "current.json").unlink()
    with pytest.raises(AirflowFailException, match=r"ModelError: no model is published .*make publish ROOT="):
        open_run()


def test_opening_a_run_writes_nothing(lake: Path, open_run: OpenRun) -> None:
    before = sorted(lake.rglob("*"))
    open_run()
    assert sorted(lake.rglob("*")) == before


def test_share_and_number_both_empty_fail_the_first_task(lake: Path, open_run: OpenRun) -> None:
    """The form allows each of them to be empty, and cannot know of the other."""
    with pytest.raises(AirflowFailException, match=r"SettingsError: .*variance_target and n_components are both empty"):
        open_run(variance_target=None)
    assert open_run(variance_target=None, n_components=40)["params"]["n_components"] == 40


PREVIOUS = "20261121T120000Z-89abcdef"


def publish_previous(lake: Path, slug: str = PREVIOUS) -> Path:
    """Publish a run as far as the next one looks at it; return its folder."""
    run = lake / "runs" / slug
    write_json(run / FEATURIZE_SUMMARY_FILE, {"model": {"digest": DIGEST}})
    (run / PCA_MODEL_FILE).parent.mkdir()
    (run / PCA_MODEL_FILE).touch()
    write_json(lake / "current.json", {"run": slug})
    return run


def planned_pca(run: dict[str, Any]) -> PcaArgs:
    """The arguments that the pca job gets, as it reads them."""
    [step] = json.loads(json.dumps(tasks.plan_cluster(json.loads(json.dumps(run)))))["pca_steps"]
    argv = step["HadoopJarStep"]["Args"]
    return PcaArgs.from_argv(argv[next(index for index, item in enumerate(argv) if item.endswith("/pca.py")) + 1 :])


def test_run_is_compared_with_the_published_one(lake: Path, open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUITS_DRIFT_THRESHOLD", "0.25")
    model = publish_previous(lake) / PCA_MODEL_FILE
    run = open_run()
    assert run["previous"] == {"run": PREVIOUS, "pca_model": f"file://{model}", "note": None}
    assert planned_pca(run).previous_model == f"file://{model}"
    assert planned_pca(run).drift_threshold == 0.25


def test_first_run_is_compared_with_none(lake: Path, open_run: OpenRun) -> None:
    run = open_run()
    assert run["previous"] == {"run": None, "pca_model": None, "note": "no run had been published before"}
    assert planned_pca(run).previous_model is None


def test_run_is_not_compared_with_itself(lake: Path, open_run: OpenRun) -> None:
    slug = open_run()["slug"]
    publish_previous(lake, slug)
    assert open_run()["previous"]["note"] == "this run itself was the published one"
    assert open_run()["previous"]["pca_model"] is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"run": null}', '{"run": "../../etc"}', f'{{"run": "{PREVIOUS}\\n"}}', '{"run": ["x"]}'],
)
def test_damaged_record_of_the_published_run_is_told_and_stops_no_run(
    lake: Path, open_run: OpenRun, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    publish_previous(lake)
    (lake / "current.json").write_text(content)
    previous = open_run()["previous"]
    assert previous["pca_model"] is None
    assert previous["note"].endswith("current.json did not name a run")
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"file://{lake}/current.json does not name a run" in warning
    assert "until a run publishes, as this one will" in warning


@pytest.mark.parametrize("name", [PCA_MODEL_FILE, FEATURIZE_SUMMARY_FILE])
def test_previous_run_whose_files_were_deleted_stops_no_run(lake: Path, open_run: OpenRun, name: str) -> None:
    (publish_previous(lake) / name).unlink()
    previous = open_run()["previous"]
    assert (previous["run"], previous["pca_model"]) == (PREVIOUS, None)
    assert name in previous["note"]


def test_features_of_another_model_are_not_compared(lake: Path, open_run: OpenRun) -> None:
    """Both have 1280 dimensions, and nothing in common."""
    write_json(publish_previous(lake) / FEATURIZE_SUMMARY_FILE, {"model": {"digest": "cd" * 32}})
    previous = open_run()["previous"]
    assert previous["pca_model"] is None
    assert previous["note"] == f"its features are of the model {'cd' * 8}, those of this run of {'ab' * 8}"


@pytest.mark.parametrize("record", [{}, {"model": "x"}, {"model": {}}, []])
def test_previous_run_that_does_not_tell_its_model_is_not_compared(lake: Path, open_run: OpenRun, record: Any) -> None:
    write_json(publish_previous(lake) / FEATURIZE_SUMMARY_FILE, record)
    assert "does not tell which model its features are of" in open_run()["previous"]["note"]


def test_plan_is_data_that_emr_accepts_after_its_way_through_xcom(lake: Path, open_run: OpenRun) -> None:
    run = json.loads(json.dumps(open_run(core_instance_count=3, variance_target=0.5, images_per_task=9)))
    plan = json.loads(json.dumps(tasks.plan_cluster(run)))
    assert problems_of("RunJobFlow", plan["job_flow_overrides"]) == ""
    assert plan["job_flow_overrides"]["LogUri"] == f"file://{lake}/logs/"
    assert plan["job_flow_overrides"]["Instances"]["InstanceFleets"][1]["TargetOnDemandCapacity"] == 3
    for name in ("featurize_steps", "pca_steps"):
        assert problems_of("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": plan[name]}) == ""
    [featurize] = plan["featurize_steps"]
    argv = featurize["HadoopJarStep"]["Args"]
    flags = argv[argv.index(f"file://{lake}/code/{plan['code']}/featurize.py") + 1 :]
    arguments = FeaturizeArgs.from_argv(flags)
    assert arguments.images == run["images"]
    assert arguments.model == run["model"]["uri"]
    assert arguments.images_per_task == 9
    assert planned_pca(run) == PcaArgs(arguments.run, 0.5)


def test_code_lies_where_the_steps_look_for_it(lake: Path, open_run: OpenRun) -> None:
    run = open_run()
    plan = tasks.plan_cluster(run)
    folder = tasks.publish_code(run, plan["code"])
    for step in plan["featurize_steps"] + plan["pca_steps"]:
        named = [item for item in step["HadoopJarStep"]["Args"] if item.startswith(f"file://{lake}/code/")]
        assert len(named) == 2
        assert all(Path(item.removeprefix("file://")).is_file() for item in named)
    bootstrap = plan["job_flow_overrides"]["BootstrapActions"][0]["ScriptBootstrapAction"]
    requirements, wheels, region = bootstrap["Args"]
    for item in (bootstrap["Path"], requirements):
        assert item.startswith(folder)
        assert Path(item.removeprefix("file://")).is_file()
    assert wheels.startswith(f"file://{lake}/wheels/")
    assert region == "eu-west-3"


@pytest.mark.parametrize(
    ("param", "value", "told"),
    [
        ("master_instance_type", "c7g.xlarge", "master_instance_type: 'c7g.xlarge' has 8192 MiB"),
        ("core_instance_types", ["c7i.2xlarge"], "core_instance_types: 'c7i.2xlarge' is x86_64"),
        ("release_label", "emr-spark-9.0.0", "release_label='emr-spark-9.0.0'"),
    ],
)
@pytest.mark.usefixtures("lake")
def test_cluster_that_emr_would_reject_is_never_asked_for(open_run: OpenRun, param: str, value: Any, told: str) -> None:
    with pytest.raises(AirflowFailException, match=f"SettingsError.*{told}"):
        tasks.plan_cluster(open_run(**{param: value}))


@pytest.fixture
def price_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of prices that has the types of these tests' runs."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(table()))
    monkeypatch.setenv("FRUITS_PRICE_TABLE", str(path))
    return path


@pytest.mark.usefixtures("lake", "price_table")
def test_run_whose_forecast_is_above_its_cap_never_gets_a_cluster(open_run: OpenRun) -> None:
    forecast = tasks.plan_cluster(open_run())["forecast"]["expected"]["eur"]["high"]
    assert tasks.plan_cluster(open_run(max_cost_eur=forecast))["job_flow_overrides"]
    with pytest.raises(AirflowFailException, match=r"CostCapError: max_cost_eur=.*: the forecast"):
        tasks.plan_cluster(open_run(max_cost_eur=forecast * 0.9))


@pytest.mark.usefixtures("lake")
def test_cap_with_a_price_that_nobody_knows_stops_the_run(open_run: OpenRun, price_table: Path) -> None:
    known = table()
    del known["instances"]["c7g.2xlarge"]["emr_usd_per_hour"]
    price_table.write_text(json.dumps(known))
    assert tasks.plan_cluster(open_run())["forecast"]["unknown"] == ["EMR's surcharge on c7g.2xlarge"]
    with pytest.raises(AirflowFailException, match=r"CostCapError.*EMR's surcharge on c7g\.2xlarge"):
        tasks.plan_cluster(open_run(max_cost_eur=1000.0))


@pytest.mark.usefixtures("lake")
def test_table_of_prices_that_is_wrong_stops_the_run(open_run: OpenRun, price_table: Path) -> None:
    price_table.write_text("{}")
    with pytest.raises(AirflowFailException, match=f"PriceTableError.*{price_table.name}"):
        tasks.plan_cluster(open_run())


def test_cost_of_a_run_that_was_not_opened_is_none() -> None:
    assert tasks.report_cost(None) is None


def test_cost_that_cannot_be_told_fails_no_run(
    lake: Path, open_run: OpenRun, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "ListClusters")

    monkeypatch.setattr(tasks, "open_emr", refuse)
    assert tasks.report_cost(open_run()) is None
    assert "AccessDeniedException" in caplog.text


@pytest.mark.usefixtures("lake")
def test_plan_without_a_wheelhouse_fails_for_good(open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run()
    production = replace(tasks.read_airflow_settings(), profile="aws", subnet_ids=("subnet-0123abcd",))
    monkeypatch.setattr(tasks, "read_airflow_settings", lambda: production)
    with pytest.raises(AirflowFailException, match=r"WheelhouseError: no wheelhouse at .*make publish ROOT="):
        tasks.plan_cluster(run)


@pytest.mark.usefixtures("lake")
def test_code_that_changed_since_the_plan_is_not_published(open_run: OpenRun) -> None:
    with pytest.raises(RuntimeError, match=f"now {build_bundle().digest}, .* planned with 0ld; clear plan_cluster"):
        tasks.publish_code(open_run(), "0ld")


def finished_run(lake: Path, open_run: OpenRun) -> dict[str, Any]:
    run = open_run(max_reject_ratio=0.5)
    write_run(lake, slug=run["slug"])
    return run


def test_verified_run_is_published_with_report_and_manifest(lake: Path, open_run: OpenRun) -> None:
    run = finished_run(lake, open_run)
    checked = tasks.verify_results(run)
    for _ in range(2):  # a retry ends in the same state
        published = tasks.publish_results(run, json.loads(json.dumps(checked)), PLAN, MADE, cost_record())
    assert len(pd.read_parquet(lake / "results")) == checked["images"] == 5
    assert json.loads((lake / "current.json").read_text()) == published
    folder = lake / "runs" / run["slug"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["run_id"] == run["run_id"]
    assert manifest["cluster"]["id"] == "j-1"
    assert manifest["residency"]["before"] == run["residency"]
    assert manifest["residency"]["cluster"] == MADE["attestation"]
    assert manifest["forecast"] == PLAN["forecast"]
    assert manifest["cost"]["eur"] == cost_record()["eur"]
    report = json.loads((folder / "report.json").read_text())
    assert report["images"] == 5
    [line] = (lake / "reports" / f"run={run['slug']}" / "report.json").read_text().splitlines()
    row = json.loads(line)
    assert {name: row[name] for name in report if name in row} == {name: report[name] for name in report if name in row}
    assert row["cost_eur_at_most"] == cost_record()["eur"]["high"]
    assert run["slug"] in (folder / "report.html").read_text()


def test_damaged_run_is_not_published_and_not_retried(lake: Path, open_run: OpenRun) -> None:
    run = finished_run(lake, open_run)
    next((lake / "runs" / run["slug"] / "features").glob("*.parquet")).unlink()
    with pytest.raises(AirflowFailException, match=r"VerificationError: .*rows of features"):
        tasks.verify_results(run)
    assert not (lake / "results").exists()


def test_manifest_is_written_last(lake: Path, open_run: OpenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(lake, open_run)
    checked = tasks.verify_results(run)

    def fail(_: Any) -> str:
        raise RuntimeError("no report")

    monkeypatch.setattr(tasks, "render_report", fail)
    with pytest.raises(RuntimeError, match="no report"):
        tasks.publish_results(run, checked, PLAN, MADE, None)
    assert not (lake / "runs" / run["slug"] / "manifest.json").exists()


def test_reports_of_all_runs_are_one_table_for_pandas(lake: Path, open_run: OpenRun) -> None:
    """Of two runs, one with a target, one without; what Spark makes of them is in tests/spark_jobs."""
    for number, params in enumerate([{}, {"variance_target": None, "n_components": 2}]):
        run = open_run(max_reject_ratio=0.5, **params) | {"slug": f"2026112{number}T120000Z-0123abcd"}
        edit_json(write_run(lake, slug=run["slug"]) / PCA_SUMMARY_FILE, **params)
        tasks.publish_results(run, tasks.verify_results(run), PLAN, MADE, None)
    lines = [path.read_text() for path in sorted(lake.glob("reports/run=*/report.json"))]
    table = pd.read_json(StringIO("".join(lines)), lines=True)
    assert table["run"].tolist() == ["20261120T120000Z-0123abcd", "20261121T120000Z-0123abcd"]
    assert table["k"].tolist() == [2, 2]
    assert table["variance_target"].isna().tolist() == [False, True]


def test_every_parameter_of_the_form_reaches_a_request(lake: Path, open_run: OpenRun) -> None:
    changed: dict[str, Any] = {
        "image_pattern": "*.JPG,*.gif",
        "variance_target": 0.123,
        "n_components": 7,
        "scores": "whitened",
        "sample_images": 99,
        "max_reject_ratio": 0.321,
        "exif_orientation": "apply",
        "release_label": "emr-7.14.0",
        "master_instance_type": "r8g.4xlarge",
        "core_instance_types": ["r8g.2xlarge"],
        "core_instance_count": 17,
        "task_instance_count": 5,
        "ebs_gib": 99,
        "images_per_task": 77,
        "step_time_limit_minutes": 33,
        "idle_timeout_minutes": 23,
    }
    # The cap reaches no request: it stops the run before there is one.
    assert set(changed) | {"data_prefix", "max_cost_eur"} == {item.name for item in fields(RunParams)}
    plain = open_run()
    assert open_run(data_prefix="data/Kiwi")["images"] == f"file://{lake}/data/Kiwi"
    for name, value in changed.items():
        plan = tasks.plan_cluster(plain | {"params": plain["params"] | {name: value}})
        assert plan != tasks.plan_cluster(plain), f"{name} changes nothing: the form asks for it in vain"


def close_after(monkeypatch: pytest.MonkeyPatch, states: dict[str, str | None]) -> None:
    """Run close_run as the last task of a run whose tasks ended so."""

    class TaskInstance:
        dag_id, run_id, task_id = "dag", "run", "close_run"

        def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
            assert (dag_id, run_ids) == ("dag", ["run"])
            return {"run": states | {"close_run": "running"}} if states else {}

    monkeypatch.setattr(tasks, "get_current_context", lambda: {"ti": TaskInstance()})
    tasks.close_run()


def test_run_is_green_when_every_task_has_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    close_after(monkeypatch, {"open_run": "success", "publish_results": "success"})


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (
            {"open_run": "success", "wait_pca": "failed", "publish_results": "upstream_failed"},
            "failed: wait_pca; not run: publish_results (upstream_failed)",
        ),
        ({"wait_pca": "success", "publish_results": "skipped"}, "failed: none; not run: publish_results (skipped)"),
        ({"terminate_cluster": "failed", "publish_results": "success"}, "failed: terminate_cluster; not run: none"),
        ({"publish_results": None}, "not run: publish_results (None)"),
        ({}, "failed: none; not run: none"),
    ],
)
def test_run_is_red_otherwise_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, states: dict[str, str | None], told: str
) -> None:
    with pytest.raises(AirflowFailException) as caught:
        close_after(monkeypatch, states)
    assert told in str(caught.value)
