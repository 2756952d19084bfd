"""The one reader of the environment: who wins, what is refused, and that every problem is told at once."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.settings.deployment import (
    Notifier,
    RunParams,
    Settings,
    SettingsError,
    environment_name,
    read_airflow_settings,
    read_settings,
    variable_name,
)
from spark_jobs.args import PcaArgs

SHAPES_DAG = [item.name for item in fields(Settings) if item.metadata["shapes_dag"]]
OF_TASKS = [item.name for item in fields(Settings) if not item.metadata["shapes_dag"]]


def test_environment_wins_over_variable_which_wins_over_default() -> None:
    variables = {"fruits_lake": "s3://from-variable", "fruits_service_role": "variable-role"}
    settings = read_settings({"FRUITS_LAKE": "s3://from-environment"}, variables.get)
    assert settings.lake == "s3://from-environment"
    assert settings.service_role == "variable-role"
    assert settings.job_flow_role == Settings().job_flow_role


@pytest.mark.parametrize("name", SHAPES_DAG)
def test_setting_that_shapes_the_dag_never_asks_for_a_variable(name: str) -> None:
    asked: list[str] = []
    read_settings({}, lambda variable: asked.append(variable))  # type: ignore[func-returns-value]
    assert variable_name(name) not in asked
    assert set(asked) == {variable_name(other) for other in OF_TASKS}


def test_parsing_a_dag_asks_for_no_variable_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Variable

    monkeypatch.setattr(Variable, "get", lambda *_, **__: pytest.fail("a Variable was read"))
    assert read_settings({}) == Settings()


def test_inside_a_task_airflow_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_FRUITS_LAKE", "file:///lake")
    monkeypatch.setenv("FRUITS_PROFILE", "local")
    assert read_airflow_settings().lake_root == "file:///lake"


def test_all_problems_come_in_one_error_each_with_name_value_and_expectation() -> None:
    wrong = {
        "FRUITS_PROFILE": "prod",
        "FRUITS_TIMEZONE": "Mars/Olympus",
        "FRUITS_POKE_INTERVAL_SECONDS": "soon",
        "FRUITS_RETRIES": "-1",
        "FRUITS_START_DATE": "22.11.2026",
        "FRUITS_LAEK": "s3://bucket",
    }
    with pytest.raises(SettingsError) as caught:
        read_settings(wrong, {"fruits_lake": "bucket"}.get)
    assert len(caught.value.problems) == 7
    for name, value in wrong.items():
        assert name in str(caught.value)
        assert name == "FRUITS_LAEK" or repr(value) in str(caught.value)
    assert "Variable fruits_lake='bucket': expected s3://bucket" in str(caught.value)


def test_typo_in_a_name_is_told_with_the_names_that_exist() -> None:
    with pytest.raises(SettingsError, match=r"FRUITS_LAEK is not a setting; expected one of .*FRUITS_LAKE"):
        read_settings({"FRUITS_LAEK": "s3://bucket"})


def test_variables_of_others_and_the_name_of_the_weights_are_no_typos() -> None:
    assert read_settings({"FRUITS_WEIGHTS": "w.h5", "FRUITSALAD": "1", "PATH": "/bin"}) == Settings()


@pytest.mark.parametrize("service", ["", "_EMR", "_S3", "_STS"])
def test_production_refuses_every_endpoint_override(service: str) -> None:
    name = f"AWS_ENDPOINT_URL{service}"
    with pytest.raises(SettingsError, match=f"{name}='http://127.0.0.1:5000': endpoint overrides are refused"):
        read_settings({name: "http://127.0.0.1:5000"})
    assert read_settings({name: "http://127.0.0.1:5000", "FRUITS_PROFILE": "local"}).profile == "local"
    assert read_settings({name: ""}).profile == "aws", "an empty variable overrides nothing"


def test_production_refuses_a_folder_as_lake() -> None:
    with pytest.raises(SettingsError, match=r"FRUITS_LAKE='file:///lake': expected s3://"):
        read_settings({"FRUITS_LAKE": "file:///lake"})
    assert read_settings({"FRUITS_LAKE": "file:///lake", "FRUITS_PROFILE": "local"}).lake_root == "file:///lake"


@pytest.mark.parametrize("profile", ["aws", "local"])
def test_region_outside_the_allowed_ones_is_refused_and_named(profile: str) -> None:
    with pytest.raises(SettingsError, match=r"FRUITS_REGION='us-east-1'.*FRUITS_ALLOWED_REGIONS='eu-west-3'"):
        read_settings({"FRUITS_REGION": "us-east-1", "FRUITS_PROFILE": profile})
    allowed = {"FRUITS_REGION": "eu-central-1", "FRUITS_ALLOWED_REGIONS": "eu-west-3, eu-central-1"}
    assert read_settings(allowed).region == "eu-central-1"


def test_no_allowed_region_allows_none() -> None:
    with pytest.raises(SettingsError, match="FRUITS_REGION"):
        read_settings({"FRUITS_ALLOWED_REGIONS": " , "})


@pytest.mark.parametrize(
    "value",
    [
        "bucket",
        "s3:/bucket",
        "s3://",
        "s3:///",
        "s3:///folder",
        "s3a://bucket",
        "file://lake",
        "file:///",
        "",
        "/lake",
        " s3://b",
    ],
)
def test_lake_that_is_no_root_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="FRUITS_LAKE="):
        read_settings({"FRUITS_LAKE": value, "FRUITS_PROFILE": "local"})


def test_lake_loses_its_last_slash_so_that_uris_have_one() -> None:
    assert read_settings({"FRUITS_LAKE": "s3://bucket/folder/"}).lake_root == "s3://bucket/folder"


def test_missing_lake_is_told_where_it_is_needed() -> None:
    with pytest.raises(SettingsError, match=r"FRUITS_LAKE .*fruits_lake.* is not set; expected"):
        _ = read_settings({}).lake_root


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "86401", "1m", ""])
def test_seconds_out_of_bounds_are_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=r"FRUITS_RETRY_DELAY_SECONDS.*at most 86400"):
        read_settings({"FRUITS_RETRY_DELAY_SECONDS": value})


@pytest.mark.parametrize("value", ["none", "None", "", " "])
def test_schedule_and_connection_can_be_switched_off(value: str) -> None:
    settings = read_settings({"FRUITS_SCHEDULE": value, "FRUITS_AWS_CONN_ID": value})
    assert settings.schedule is None
    assert settings.aws_conn_id is None


def test_notifier_is_a_path_and_arguments() -> None:
    record = {"path": "package.module.Notifier", "arguments": {"channel": "#fruits"}}
    assert read_settings({"FRUITS_FAILURE_NOTIFIER": json.dumps(record)}).failure_notifier == Notifier(
        "package.module.Notifier", {"channel": "#fruits"}
    )
    assert read_settings({"FRUITS_FAILURE_NOTIFIER": ""}).failure_notifier is None


@pytest.mark.parametrize(
    "value",
    [
        "package.Notifier",
        "[]",
        "{}",
        '{"path": 1}',
        '{"path": "Notifier"}',
        '{"path": "a.b", "arguments": []}',
        '{"path": "a.b", "args": {}}',
    ],
)
def test_notifier_in_another_form_is_refused_with_an_example(value: str) -> None:
    with pytest.raises(SettingsError, match=r'FRUITS_FAILURE_NOTIFIER=.*expected JSON such as {"path"'):
        read_settings({"FRUITS_FAILURE_NOTIFIER": value})


@given(st.dictionaries(st.sampled_from([environment_name(item.name) for item in fields(Settings)]), st.text()))
def test_any_text_gives_settings_or_one_error_that_names_a_setting(environ: dict[str, str]) -> None:
    try:
        settings = read_settings(environ)
    except SettingsError as error:
        assert error.problems  # noqa: PT017 - the other outcome is as good
        assert any(name in str(error) for name in environ)  # noqa: PT017
    else:
        assert settings.region in settings.allowed_regions


def test_every_setting_says_what_it_is() -> None:
    assert [item.name for item in fields(Settings) if not item.metadata["help"].strip()] == []


def test_run_params_take_what_the_form_sends() -> None:
    sent = {name: getattr(RunParams(), name) for name in RunParams.__dataclass_fields__}
    sent |= {"variance_target": 0.9, "core_instance_types": ["m7g.xlarge"]}
    assert RunParams.from_params(sent) == replace(RunParams(), variance_target=0.9, core_instance_types=("m7g.xlarge",))


def test_run_params_name_all_that_is_missing_and_all_that_is_unknown() -> None:
    sent = {name: getattr(RunParams(), name) for name in RunParams.__dataclass_fields__}
    del sent["data_prefix"], sent["images_per_task"]
    with pytest.raises(SettingsError) as caught:
        RunParams.from_params(sent | {"variance": 0.9, "prefix": "data"})
    assert caught.value.problems == [
        "the parameter 'data_prefix' is missing",
        "the parameter 'images_per_task' is missing",
        "'prefix' is not a parameter of this DAG",
        "'variance' is not a parameter of this DAG",
    ]


def test_number_of_components_or_share_of_the_variance_has_to_be_given() -> None:
    sent = {name: getattr(RunParams(), name) for name in RunParams.__dataclass_fields__}
    assert RunParams.from_params(sent | {"variance_target": None, "n_components": 40}).variance_target is None
    assert RunParams.from_params(sent | {"n_components": 40}).variance_target == 0.8
    with pytest.raises(SettingsError) as caught:
        RunParams.from_params(sent | {"variance_target": None})
    assert caught.value.problems == ["variance_target and n_components are both empty; expected one of them, or both"]


def test_whole_number_that_json_has_as_a_float_is_one() -> None:
    """The form's JSON schema takes 40.0 as an integer; ``--n-components=40.0`` would fail on the cluster."""
    sent = {name: getattr(RunParams(), name) for name in RunParams.__dataclass_fields__}
    params = RunParams.from_params(sent | {"n_components": 40.0, "images_per_task": 9.0, "max_reject_ratio": 1.0})
    assert [repr(params.n_components), repr(params.images_per_task)] == ["40", "9"]
    assert repr(params.max_reject_ratio) == "1.0"


def test_threshold_of_drift_is_a_positive_number_from_environment_or_variable() -> None:
    assert read_settings({}).drift_threshold == PcaArgs("r").drift_threshold
    assert read_settings({"FRUITS_DRIFT_THRESHOLD": "0.25"}).drift_threshold == 0.25
    assert read_settings({}, {"fruits_drift_threshold": "3"}.get).drift_threshold == 3
    for text in ("0", "-0.1", "nan", "inf", "10%", ""):
        with pytest.raises(SettingsError, match=r"FRUITS_DRIFT_THRESHOLD=.*expected a number greater than 0"):
            read_settings({"FRUITS_DRIFT_THRESHOLD": text})


def test_reading_the_settings_changes_nothing_in_the_environment() -> None:
    before = dict(os.environ)
    read_settings({"FRUITS_LAKE": "s3://bucket"})
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("2026-06-01", "2026-06-01T00:00:00+02:00"),
        ("2026-11-22T09:30:00Z", "2026-11-22T10:30:00+01:00"),
        ("2026-11-22T09:30:00+05:00", "2026-11-22T05:30:00+01:00"),
    ],
)
def test_schedule_starts_on_a_day_or_at_a_moment(text: str, start: str) -> None:
    schedule_start = read_settings({"FRUITS_START_DATE": text}).schedule_start
    assert schedule_start.isoformat() == start
    assert str(schedule_start.tzinfo) == "Europe/Paris"


@pytest.mark.parametrize("text", ["2026-11-22T09:30:00", "2026-11-22T25:00:00Z", "tomorrow"])
def test_moment_needs_its_time_zone(text: str) -> None:
    with pytest.raises(SettingsError, match=r"FRUITS_START_DATE=.*expected a date as YYYY-MM-DD, or a moment with"):
        read_settings({"FRUITS_START_DATE": text})


@pytest.mark.parametrize(
    "lake", ["s3://fruits/my lake", "s3://fruits/100%", "s3://fruits/#1", "s3://fruits/été", "s3://a?b"]
)
def test_folder_on_s3_that_spark_submit_would_misread_is_refused(lake):
    with pytest.raises(SettingsError, match=r"FRUITS_LAKE=.*letters A to Z, digits and .* only"):
        read_settings({"FRUITS_LAKE": lake})


def test_folder_on_s3_of_safe_characters_is_taken():
    assert read_settings({"FRUITS_LAKE": "s3://fruits-2026/a_b/c.d-e(1)/"}).lake == "s3://fruits-2026/a_b/c.d-e(1)"
