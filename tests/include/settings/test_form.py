"""The trigger form: it explains itself, its defaults are valid, and its bounds hold."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import ParamValidationError

from include.settings.deployment import RunParams
from include.settings.form import run_params

NAMES = sorted(run_params())

REFUSED: list[tuple[str, Any]] = [
    ("data_prefix", ""),
    ("data_prefix", "/data"),
    ("data_prefix", "../other"),
    ("data_prefix", "data/../../other"),
    ("data_prefix", "data/.."),
    ("data_prefix", "./data"),
    ("data_prefix", "data\n/../other"),
    ("data_prefix", "s3://bucket/data"),
    ("data_prefix", None),
    ("image_pattern", ""),
    ("max_reject_ratio", -0.01),
    ("max_reject_ratio", 1.01),
    ("max_reject_ratio", "0.05"),
    ("exif_orientation", "auto"),
    ("exif_orientation", ""),
    ("images_per_task", 0),
    ("images_per_task", 1.5),
    ("images_per_task", 100_001),
    ("variance_target", 0),
    ("variance_target", 1),
    ("variance_target", 80),
    ("variance_target", "0.8"),
    ("n_components", 0),
    ("n_components", 1281),
    ("n_components", 2.5),
    ("n_components", "40"),
    ("scores", "standardised"),
    ("scores", None),
    ("sample_images", -1),
    ("sample_images", 5001),
    ("sample_images", None),
    ("release_label", "emr-8"),
    ("release_label", "spark-8.1.0"),
    ("release_label", "emr-7.14.0; rm -rf /"),
    ("master_instance_type", "m7g"),
    ("master_instance_type", "M7G.XLARGE"),
    ("core_instance_types", []),
    ("core_instance_types", "c7g.2xlarge"),
    ("core_instance_types", ["c7g.2xlarge", "c7g.2xlarge"]),
    ("core_instance_types", ["c7g"]),
    ("core_instance_count", 0),
    ("core_instance_count", 51),
    ("core_instance_count", "2"),
    ("task_instance_count", -1),
    ("task_instance_count", 201),
    ("ebs_gib", 9),
    ("ebs_gib", 1025),
    ("step_time_limit_minutes", 0),
    ("step_time_limit_minutes", 721),
    ("idle_timeout_minutes", 0),
    ("idle_timeout_minutes", 1441),
    ("max_cost_eur", 0),
    ("max_cost_eur", 100_001),
    ("max_cost_eur", "25"),
]

TAKEN: list[tuple[str, Any]] = [
    ("data_prefix", "data/2026-11-22/crème brûlée"),
    ("data_prefix", "a..b/c.d"),
    ("image_pattern", "*.png"),
    ("max_reject_ratio", 0),
    ("max_reject_ratio", 1),
    ("exif_orientation", "apply"),
    ("variance_target", 0.999),
    ("variance_target", None),
    ("n_components", 1),
    ("n_components", 1280),
    ("n_components", None),
    ("scores", "centred"),
    ("scores", "whitened"),
    ("sample_images", 0),
    ("sample_images", 5000),
    ("release_label", "emr-7.14.0"),
    ("release_label", "emr-spark-8.1.0"),
    ("master_instance_type", "u-6tb1.metal"),
    ("master_instance_type", "m7g.xlarge"),
    ("core_instance_types", ["c7gd.12xlarge", "g5.xlarge"]),
    ("core_instance_count", 50),
    ("task_instance_count", 0),
    ("task_instance_count", 200),
    ("ebs_gib", 10),
    ("ebs_gib", 1024),
    ("step_time_limit_minutes", 720),
]


@pytest.mark.parametrize("name", NAMES)
def test_parameter_explains_itself(name: str) -> None:
    schema = run_params()[name].schema
    for key in ("title", "type", "section"):
        assert schema.get(key), f"give {name} a {key} in include/settings/form.py: the form shows it"
    assert run_params()[name].description, f"give {name} a description in include/settings/form.py: the form shows it"


@pytest.mark.parametrize("name", NAMES)
def test_default_is_valid(name: str) -> None:
    """A DAG with a schedule whose default is not valid does not parse."""
    run_params()[name].resolve()


@pytest.mark.parametrize("name", NAMES)
def test_number_and_list_have_both_bounds(name: str) -> None:
    schema = run_params()[name].schema
    if {"number", "integer"} & ({schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])):
        assert {"minimum", "exclusiveMinimum"} & set(schema)
        assert {"maximum", "exclusiveMaximum"} & set(schema)
    elif schema["type"] == "array":
        assert {"minItems", "maxItems"} <= set(schema)
    else:
        assert {"pattern", "minLength", "enum"} & set(schema), f"{name} may be empty"


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_value_outside_the_bounds_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ParamValidationError):
        run_params()[name].resolve(value)


@pytest.mark.parametrize(("name", "value"), TAKEN)
def test_value_inside_the_bounds_is_taken(name: str, value: Any) -> None:
    assert run_params()[name].resolve(value) == value


def test_every_bound_of_the_form_is_tried_from_outside() -> None:
    assert {name for name, _ in REFUSED} == set(NAMES)


def test_form_and_settings_have_the_same_parameters_and_defaults() -> None:
    sent = {name: param.value for name, param in run_params().items()}
    assert RunParams.from_params(sent) == RunParams()
