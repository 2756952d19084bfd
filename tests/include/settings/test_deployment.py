"""Deployment settings: which source overrides which, what is refused, and that one error reports every problem."""

from __future__ import annotations

import json
import os
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.settings.deployment import (
    Settings,
    SettingsError,
    environment_name,
    read_airflow_settings,
    read_settings,
    variable_name,
)
from include.settings.readers import Notifier


def problem_of(name: str, value: str, **environ: str) -> str:
    """Return the only problem of a setting's value."""
    with pytest.raises(SettingsError) as caught:
        read_settings({name: value, **environ})
    (problem,) = caught.value.problems
    return problem


def test_environment_wins_over_variable_which_wins_over_default() -> None:
    variables = {"fruits_lake": "s3://from-variable", "fruits_service_role": "variable-role"}
    settings = read_settings({"FRUITS_LAKE": "s3://from-environment"}, variables.get)
    assert settings.lake == "s3://from-environment"
    assert settings.service_role == "variable-role"
    assert settings.job_flow_role == Settings().job_flow_role


def test_settings_that_shape_the_dag_never_read_a_variable() -> None:
    requested: list[str] = []
    read_settings({}, lambda variable: requested.append(variable))  # type: ignore[func-returns-value]
    assert requested == [variable_name(item.name) for item in fields(Settings) if not item.metadata["shapes_dag"]]
    assert {"schedule", "timezone", "owner"} <= {item.name for item in fields(Settings) if item.metadata["shapes_dag"]}


def test_parsing_a_dag_reads_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_misspelt_name_is_reported_with_the_known_names() -> None:
    with pytest.raises(SettingsError, match=r"FRUITS_LAEK is not a setting; expected one of .*FRUITS_LAKE"):
        read_settings({"FRUITS_LAEK": "s3://bucket"})


def test_other_environment_variables_are_not_reported_as_misspelt() -> None:
    assert read_settings({"FRUITS_WEIGHTS": "w.h5", "FRUITSALAD": "1", "PATH": "/bin"}) == Settings()


def test_production_refuses_every_endpoint_override() -> None:
    url = "http://127.0.0.1:5000"
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EMR", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS"):
        assert problem_of(name, url).startswith(f"{name}='{url}': endpoint overrides are refused")
        assert read_settings({name: url, "FRUITS_PROFILE": "local"}).profile == "local"
        assert read_settings({name: ""}).profile == "aws", "an empty variable overrides nothing"


def test_production_refuses_a_folder_as_lake() -> None:
    with pytest.raises(SettingsError, match=r"FRUITS_LAKE='file:///lake': expected s3://"):
        read_settings({"FRUITS_LAKE": "file:///lake"})
    assert read_settings({"FRUITS_LAKE": "file:///lake", "FRUITS_PROFILE": "local"}).lake_root == "file:///lake"


def test_region_that_is_not_allowed_is_refused() -> None:
    for profile in ("aws", "local"):
        problem = problem_of("FRUITS_REGION", "us-east-1", FRUITS_PROFILE=profile)
        assert "FRUITS_REGION='us-east-1': expected one of FRUITS_ALLOWED_REGIONS='eu-west-3'" in problem
    allowed = {"FRUITS_REGION": "eu-central-1", "FRUITS_ALLOWED_REGIONS": "eu-west-3, eu-central-1"}
    assert read_settings(allowed).region == "eu-central-1"


def test_no_allowed_region_allows_none() -> None:
    with pytest.raises(SettingsError, match="FRUITS_REGION"):
        read_settings({"FRUITS_ALLOWED_REGIONS": " , "})


def test_lake_that_is_not_a_root_is_refused() -> None:
    values = ("bucket", "s3:/bucket", "s3://", "s3:///", "s3:///folder", "s3a://bucket", "file://lake", "file:///")
    for value in (*values, "", "/lake", " s3://b"):
        assert "expected s3://bucket" in problem_of("FRUITS_LAKE", value, FRUITS_PROFILE="local"), value


def test_trailing_slash_of_the_lake_is_removed() -> None:
    assert read_settings({"FRUITS_LAKE": "s3://bucket/folder/"}).lake_root == "s3://bucket/folder"


def test_missing_lake_is_reported_when_it_is_needed() -> None:
    with pytest.raises(SettingsError, match=r"FRUITS_LAKE .*fruits_lake.* is not set; expected"):
        _ = read_settings({}).lake_root


def test_numbers_out_of_their_range_are_refused() -> None:
    for value in ("0", "-1", "nan", "inf", "86401", "1m", ""):
        assert "at most 86400" in problem_of("FRUITS_RETRY_DELAY_SECONDS", value), value
    for value in ("0", "-0.1", "nan", "inf", "10%", ""):
        assert "expected a number greater than 0" in problem_of("FRUITS_DRIFT_THRESHOLD", value), value


def test_schedule_and_connection_can_be_switched_off() -> None:
    for value in ("none", "None", "", " "):
        settings = read_settings({"FRUITS_SCHEDULE": value, "FRUITS_AWS_CONN_ID": value})
        assert settings.schedule is None
        assert settings.aws_conn_id is None


def test_notifier_is_a_path_and_arguments() -> None:
    record = {"path": "package.module.Notifier", "arguments": {"channel": "#fruits"}}
    assert read_settings({"FRUITS_FAILURE_NOTIFIER": json.dumps(record)}).failure_notifier == Notifier(
        "package.module.Notifier", {"channel": "#fruits"}
    )
    assert read_settings({"FRUITS_FAILURE_NOTIFIER": ""}).failure_notifier is None


def test_malformed_notifier_is_refused_with_an_example() -> None:
    records = ("[]", "{}", '{"path": 1}', '{"path": "Notifier"}', '{"path": "a.b", "arguments": []}')
    for value in ("package.Notifier", *records, '{"path": "a.b", "args": {}}'):
        assert 'expected JSON such as {"path"' in problem_of("FRUITS_FAILURE_NOTIFIER", value), value


@given(st.dictionaries(st.sampled_from([environment_name(item.name) for item in fields(Settings)]), st.text()))
def test_any_text_gives_settings_or_one_error_that_names_a_setting(environ: dict[str, str]) -> None:
    try:
        settings = read_settings(environ)
    except SettingsError as error:
        assert error.problems  # noqa: PT017 - the other outcome is as good
        assert any(name in str(error) for name in environ)  # noqa: PT017
    else:
        assert settings.region in settings.allowed_regions


def test_every_setting_has_a_description() -> None:
    assert [item.name for item in fields(Settings) if not item.metadata["help"].strip()] == []


def test_task_settings_come_from_the_environment_or_a_variable() -> None:
    assert read_settings({"FRUITS_DRIFT_THRESHOLD": "0.25"}).drift_threshold == 0.25
    assert read_settings({}, {"fruits_drift_threshold": "3"}.get).drift_threshold == 3


def test_reading_the_settings_changes_nothing_in_the_environment() -> None:
    before = dict(os.environ)
    read_settings({"FRUITS_LAKE": "s3://bucket"})
    assert dict(os.environ) == before


def test_schedule_starts_on_a_date_or_at_a_time() -> None:
    for text, start in {
        "2026-06-01": "2026-06-01T00:00:00+02:00",
        "2026-11-22T09:30:00Z": "2026-11-22T10:30:00+01:00",
        "2026-11-22T09:30:00+05:00": "2026-11-22T05:30:00+01:00",
    }.items():
        schedule_start = read_settings({"FRUITS_START_DATE": text}).schedule_start
        assert schedule_start.isoformat() == start
        assert str(schedule_start.tzinfo) == "Europe/Paris"
    for text in ("2026-11-22T09:30:00", "2026-11-22T25:00:00Z", "tomorrow"):
        assert "expected a date as YYYY-MM-DD, or a time with" in problem_of("FRUITS_START_DATE", text), text


def test_lake_may_only_have_characters_that_spark_submit_does_not_misread() -> None:
    for lake in ("s3://fruits/my lake", "s3://fruits/100%", "s3://fruits/#1", "s3://fruits/été", "s3://a?b"):
        assert "of the letters A to Z, digits and" in problem_of("FRUITS_LAKE", lake), lake
    assert read_settings({"FRUITS_LAKE": "s3://fruits-2026/a_b/c.d-e(1)/"}).lake == "s3://fruits-2026/a_b/c.d-e(1)"


def test_settings_of_the_cluster_come_from_the_environment() -> None:
    settings = read_settings(
        {
            "FRUITS_ARCHITECTURE": "x86_64",
            "FRUITS_LOGS": "s3://logs/emr/",
            "FRUITS_SUBNET_IDS": "subnet-0123abcd, subnet-1123abcd",
            "FRUITS_TAGS": "team=data, cost-centre = 12=3",
        }
    )
    assert settings.architecture == "x86_64"
    assert settings.logs == "s3://logs/emr"
    assert settings.subnet_ids == ("subnet-0123abcd", "subnet-1123abcd")
    assert settings.tags == (("team", "data"), ("cost-centre", "12=3"))
    for name, value, expected in (
        ("FRUITS_ARCHITECTURE", "aarch64", "'arm64' or 'x86_64'"),
        ("FRUITS_LOGS", "bucket", "s3://bucket"),
        ("FRUITS_TAGS", "team", "key=value"),
        ("FRUITS_TAGS", "=data", "key=value"),
        ("FRUITS_TAGS", "team=a,team=b", "each key once"),
    ):
        assert f"expected {expected}" in problem_of(name, value)
