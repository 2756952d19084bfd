"""The plan is data that EMR accepts, built from the run's parameters; a run above its cost limit gets no plan."""

from __future__ import annotations

import json
import logging
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
from tests.include.run_records import PREVIOUS, found_record
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
    run = opened(core_instance_count=3, variance_target=0.5, images_per_task=9)
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
        arguments.run, 0.5, previous_model=model, drift_threshold=0.25
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
    forecast = plan_of(opened())["forecast"]["expected"]["eur"]["high"]
    assert plan_of(opened(max_cost_eur=forecast))["job_flow_overrides"]
    with pytest.raises(AirflowFailException, match=r"CostCapError: max_cost_eur=.*: the forecast"):
        plan_of(opened(max_cost_eur=forecast * 0.9))
    incomplete = table()
    del incomplete["instances"]["c7g.2xlarge"]["emr_usd_per_hour"]
    path.write_text(json.dumps(incomplete))
    assert plan_of(opened())["forecast"]["unknown"] == ["EMR's surcharge on c7g.2xlarge"]
    with pytest.raises(AirflowFailException, match=r"CostCapError.*EMR's surcharge on c7g\.2xlarge"):
        plan_of(opened(max_cost_eur=1000.0))
    path.write_text("{}")
    with pytest.raises(AirflowFailException, match=f"PriceTableError.*{path.name}"):
        plan_of(opened())


@pytest.mark.parametrize("damage", ["{", "[]", '{"profile": "aws"}', None])
def test_a_damaged_manifest_of_the_published_state_does_not_block_the_plan(
    lake: Path, opened: Opened, damage: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    default = plan_of(opened())["forecast"]
    path = f"manifests/000001-{PREVIOUS}.json"
    (lake / "current.json").write_text(json.dumps({"manifest": path, "run": PREVIOUS, "state": 1}))
    if damage is not None:
        (lake / path).parent.mkdir()
        (lake / path).write_text(damage)
    assert plan_of(opened())["forecast"]["expected"] == default["expected"]
    assert ("default rates, since the manifest of the published run is damaged" in caplog.text) is (
        damage not in ('{"profile": "aws"}',)
    )


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
    # data_prefix changes open_run's record, full_run that of find_changes; max_cost_eur stops the run before there is
    # a request.
    assert set(changed) | {"data_prefix", "full_run", "max_cost_eur"} == {item.name for item in fields(RunParams)}
    default = plan_of(opened())
    for name, value in changed.items():
        assert plan_of(opened(**{name: value})) != default, f"{name} has no effect"
