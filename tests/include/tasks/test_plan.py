"""The plan is data that EMR accepts, built from the run's parameters; a run above its cost limit gets no plan."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from include.artifacts.bundle import build_bundle
from include.settings.parameters import RunParams
from include.tasks import plan as tasks
from spark_jobs.args import FeaturizeArgs, PcaArgs
from tests.include.price_tables import table
from tests.include.run_records import PREVIOUS, found_record, manifest, run_record, sizing_record
from tests.include.service_model import problems_of

Opened = Callable[..., dict[str, Any]]


def plan_of(run: dict[str, Any], **found: Any) -> Any:
    """The plan of a run that has found changes."""
    return tasks.plan_cluster(run, found_record(**found))  # type: ignore[arg-type]


def arguments_of(step: dict[str, Any], program: str) -> list[str]:
    """The command line that the job gets."""
    argv = step["HadoopJarStep"]["Args"]
    return argv[next(index for index, item in enumerate(argv) if item.endswith(f"/{program}.py")) + 1 :]


@pytest.fixture(autouse=True)
def log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_plan_is_data_that_emr_accepts(lake: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUITS_DRIFT_THRESHOLD", "0.25")
    run = opened(min_worker_nodes=3, max_worker_nodes=3, max_core_nodes=3, variance_target=0.5, images_per_task=9)
    plan = json.loads(json.dumps(plan_of(run)))
    request = plan["job_flow_overrides"]
    assert problems_of("RunJobFlow", request) == ""
    assert request["LogUri"] == f"file://{lake}/logs/"
    assert request["Instances"]["InstanceFleets"][1]["TargetOnDemandCapacity"] == 3
    for name in ("featurize_steps", "pca_steps"):
        assert problems_of("AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": plan[name]}) == ""
    [featurize], [pca] = plan["featurize_steps"], plan["pca_steps"]
    arguments = FeaturizeArgs.from_argv(arguments_of(featurize, "featurize"))
    assert (arguments.images, arguments.model) == (run["images"], run["model"]["uri"])
    assert arguments.images_per_task == 9
    assert arguments.changes == f"{arguments.run}/changes.json"
    assert arguments.segments == f"file://{lake}/segments"
    model = run["previous"]["pca_model"]
    assert PcaArgs.from_argv(arguments_of(pca, "pca")) == PcaArgs(
        arguments.run, 0.5, previous_model=model, drift_threshold=0.25, progress_seconds=5.0
    )


def test_code_is_where_the_steps_and_the_bootstrap_action_expect_it(lake: Path, opened: Opened) -> None:
    run = opened()
    plan = plan_of(run)
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
    with pytest.raises(RuntimeError, match=f"now {build_bundle().digest}, .* planned with 0ld; clear plan_cluster"):
        tasks.publish_code(run, "0ld")


def test_cluster_that_emr_would_reject_fails_without_retry(opened: Opened) -> None:
    for params, message in [
        ({"master_instance_type": "c7g.xlarge"}, "master_instance_type: 'c7g.xlarge' has 8192 MiB"),
        ({"core_instance_types": ["c7i.2xlarge"]}, "core_instance_types: 'c7i.2xlarge' is x86_64"),
        ({"release_label": "emr-spark-9.0.0"}, "release_label='emr-spark-9.0.0'"),
    ]:
        with pytest.raises(AirflowFailException, match=f"SettingsError.*{message}"):
            plan_of(opened(**params))


def test_plan_without_a_wheelhouse_fails_without_retry(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    production = replace(tasks.read_airflow_settings(), profile="aws", subnet_ids=("subnet-0123abcd",))
    monkeypatch.setattr(tasks, "read_airflow_settings", lambda: production)
    with pytest.raises(AirflowFailException, match=r"WheelhouseError: no wheelhouse at .*make publish ROOT="):
        plan_of(opened())


def test_forecast_that_is_above_the_limit_or_unknown_stops_a_run_with_a_limit(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(table()))
    monkeypatch.setenv("FRUITS_PRICE_TABLE", str(path))
    workers = {"min_worker_nodes": 4}
    forecast = plan_of(opened(**workers))["forecast"]["expected"]["eur"]["high"]
    assert plan_of(opened(max_cost_eur=forecast, **workers))["job_flow_overrides"]
    with pytest.raises(AirflowFailException, match=r"CostCapError: max_cost_eur=.*: the forecast"):
        plan_of(opened(max_cost_eur=forecast * 0.9, **workers))
    incomplete = table()
    del incomplete["instances"]["c7g.2xlarge"]["emr_usd_per_hour"]
    path.write_text(json.dumps(incomplete))
    assert plan_of(opened(**workers))["forecast"]["unknown"] == ["EMR's surcharge on c7g.2xlarge"]
    with pytest.raises(AirflowFailException, match=r"CostCapError.*EMR's surcharge on c7g\.2xlarge"):
        plan_of(opened(max_cost_eur=1000.0, **workers))
    path.write_text("{}")
    with pytest.raises(AirflowFailException, match=f"PriceTableError.*{path.name}"):
        plan_of(opened())


def publish(lake: Path, *manifests: Any) -> None:
    """Write the manifests of states, the last of which is published; text is written as it is."""
    (lake / "manifests").mkdir(exist_ok=True)
    path = None
    for state, record in enumerate(manifests, 1):
        before, path = path, f"manifests/{state:06d}-run{state}.json"
        if record is not None:
            record = record | {"state": state, "run": f"run{state}", "previous_manifest": before}
        (lake / path).write_text("{" if record is None else json.dumps(record))
    (lake / "current.json").write_text(json.dumps({"manifest": path, "run": PREVIOUS, "state": len(manifests)}))


def on_aws(speed: float = 50.0, wait: float = 1200.0) -> dict[str, Any]:
    """The manifest of a run of 40,000 photos on 4 vCPUs."""
    sizing = sizing_record()
    sizing["outcome"] |= {
        "vcpus": 4,
        "images": 40_000,
        "bytes": 0,
        "featurize_seconds": 40_000 / speed / 4,
        "start_and_stop_seconds": wait,
    }
    return manifest(run=run_record(profile="aws"), sizing=sizing)


def test_plan_learns_from_the_last_runs_and_skips_damaged_manifests(
    lake: Path, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    work = {"listed": 600_000, "work": 600_000, "work_bytes": 0}
    assumed = plan_of(opened(), **work)["sizing"]
    publish(lake, on_aws(), on_aws(speed=9.0), None, {"profile": "aws"}, on_aws(), manifest())
    learned = plan_of(opened(), **work)["sizing"]
    assert "no earlier run" in assumed["rates"]
    assert learned["rates"] == "the last 3 runs on AWS (images/s, start and stop); assumed: pca"
    assert learned["images_per_second_per_vcpu"] == 50.0
    assert learned["start_and_stop_seconds"] == 1200.0
    assert learned["core_nodes"] > assumed["core_nodes"] == 0, "the photos of the slow machines need more of them"
    assert "manifests/000003-run3.json is damaged and is skipped" in caplog.text
    assert "The plan ignores the manifest of state 4" in caplog.text


def test_restored_state_counts_once(lake: Path, opened: Opened) -> None:
    fast, slow = on_aws(wait=600.0), on_aws(wait=6000.0)
    publish(lake, fast, slow)
    for number, state in ((3, 2), (4, 2)):
        record = json.loads((lake / f"manifests/{state:06d}-run{state}.json").read_text())
        record |= {"state": number, "previous_manifest": f"manifests/{number - 1:06d}-run{min(number - 1, 2)}.json"}
        (lake / f"manifests/{number:06d}-run2.json").write_text(json.dumps(record))
    (lake / "current.json").write_text(json.dumps({"manifest": "manifests/000004-run2.json"}))
    assert plan_of(opened())["sizing"]["start_and_stop_seconds"] == 3300.0


def test_small_day_gets_a_single_node_and_a_big_day_spot_nodes_with_speculation(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    for work, fleets in ((100, {"MASTER"}), (10**7, {"MASTER", "CORE", "TASK"})):
        plan = plan_of(opened(), listed=10**7, work=work)
        sizing, request = plan["sizing"], plan["job_flow_overrides"]
        assert {fleet["InstanceFleetType"] for fleet in request["Instances"]["InstanceFleets"]} == fleets
        assert request["Configurations"][1]["Properties"]["spark.default.parallelism"] == str(sizing["vcpus"])
        conf = "spark.speculation=true"
        assert (conf in plan["featurize_steps"][0]["HadoopJarStep"]["Args"]) is (sizing["task_nodes"] > 0)
        assert conf not in plan["pca_steps"][0]["HadoopJarStep"]["Args"]
    assert sizing["task_nodes"] > 0


def test_log_and_summary_show_the_plan_before_the_cluster_exists(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_of(opened(), listed=1_000_000, work=1_000, work_bytes=5_000_000)
    assert f"Plan: {plan['summary']}" in caplog.text
    assert plan["summary"].startswith(
        "1,000 of 1,000,000 images (5.0 MB) to compute: the primary node alone, 4 vCPUs; "
    )
    assert re.search(
        r"; 15 min, 15 of them to start and stop; at least 0\.0\d €, at least 0\.0\d € of it", plan["summary"]
    )
    assert plan["summary"].endswith("the deadline of 60 min is met")
    assert "The deadline will be missed" not in caplog.text


def test_deadline_and_time_limit_that_will_be_missed_are_warnings(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_of(opened(max_worker_nodes=1, deadline_minutes=90), listed=10**7, work=10**7)
    assert not plan["sizing"]["meets_deadline"]
    assert (
        "The deadline will be missed: 214 min are expected, deadline_minutes=90. Raise max_worker_nodes=1"
        in caplog.text
    )
    assert "featurize is expected to take 195 min, but step_time_limit_minutes=180 stops it" in caplog.text


def test_forecast_is_for_the_images_to_compute_and_says_how_many(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    few, many = (plan_of(opened(), listed=10**6, work=work)["forecast"] for work in (10**4, 10**6))
    assert (few["images"], many["images"]) == (10**4, 10**6)
    assert few["expected"]["seconds"] < many["expected"]["seconds"]
    assert "for 10,000 images" in caplog.text
    assert "for 1,000,000 images" in caplog.text
    assert "All 1000000 images are computed: no state is published yet" in caplog.text


def test_run_with_nothing_to_do_is_skipped_with_the_reason(opened: Opened) -> None:
    with pytest.raises(AirflowSkipException, match=r"^nothing has changed since the state 3$"):
        plan_of(opened(), everything=None, nothing_to_do="nothing has changed since the state 3")


def test_every_parameter_of_the_form_changes_a_request(opened: Opened) -> None:
    changed: dict[str, Any] = {
        "image_pattern": "*.JPG,*.gif",
        "include_hidden": True,
        "variance_target": 0.123,
        "n_components": 7,
        "scores": "whitened",
        "basis": "keep",
        "sample_images": 99,
        "max_reject_ratio": 0.321,
        "exif_orientation": "apply",
        "release_label": "emr-7.14.0",
        "master_instance_type": "r8g.4xlarge",
        "core_instance_types": ["r8g.2xlarge"],
        "deadline_minutes": 61,
        "min_worker_nodes": 7,
        "max_worker_nodes": 3,
        "max_core_nodes": 1,
        "ebs_gib": 99,
        "images_per_task": 77,
        "step_time_limit_minutes": 33,
        "idle_timeout_minutes": 23,
    }
    # data_prefix changes open_run's record, full_run that of find_changes; max_cost_eur stops the run before there is
    # a request.
    assert set(changed) | {"data_prefix", "full_run", "max_cost_eur"} == {item.name for item in fields(RunParams)}
    work = {"listed": 10**7, "work": 10**7}  # so much that the deadline is missed
    default = plan_of(opened(), **work)
    for name, value in changed.items():
        assert plan_of(opened(**{name: value}), **work) != default, f"{name} has no effect"
