"""The trigger form: it explains itself, its defaults are valid, and every parameter has limits that are enforced."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param
from airflow.sdk.exceptions import ParamValidationError

from include.settings.form import run_params
from include.settings.parameters import RunParams
from spark_jobs.args import FeaturizeArgs, JobArgs, PcaArgs

REFUSED: dict[str, tuple[Any, ...]] = {
    "data_prefix": (
        "",
        "/data",
        "../other",
        "data/../../other",
        "data/..",
        "./data",
        "data\n/../other",
        "s3://b/d",
        None,
    ),
    "image_pattern": ("",),
    "include_hidden": ("true", 1, None),
    "full_run": ("true", 1, None),
    "max_reject_ratio": (-0.01, 1.01, "0.05"),
    "exif_orientation": ("auto", ""),
    "images_per_task": (0, 1.5, 100_001),
    "variance_target": (0, 1, "0.8"),
    "n_components": (0, 1281, 2.5),
    "scores": ("standardised", None),
    "basis": ("fit", None),
    "sample_images": (-1, 5001, None),
    "release_label": ("emr-8", "spark-8.1.0", "latest", "emr-7.14.0; rm -rf /"),
    "master_instance_type": ("m7g", "M7G.XLARGE"),
    "core_instance_types": (
        *([], "c7g.2xlarge", ["c7g.2xlarge", "c7g.2xlarge"], ["c7g"]),
        [f"c{n}g.2xlarge" for n in range(31)],
    ),
    "deadline_minutes": (0, 1441, None),
    "min_worker_nodes": (-1, 201, None),
    "max_worker_nodes": (-1, 201, None),
    "max_core_nodes": (0, 201, None),
    "ebs_gib": (9, 1025),
    "step_time_limit_minutes": (0, 721),
    "idle_timeout_minutes": (0, 1441),
    "max_cost_eur": (0, 100_001, "25"),
}
"""Values just outside the limits, and of other types. What EMR does not accept is refused here and nowhere else."""

ACCEPTED: dict[str, tuple[Any, ...]] = {
    "data_prefix": ("data/2026-11-22/crème brûlée", "a..b/c.d"),
    "max_reject_ratio": (0, 1),
    "images_per_task": (1, 100_000),
    "exif_orientation": ("apply",),
    "variance_target": (1e-9, 1 - 1e-9, None),
    "n_components": (1, 1280, None),
    "scores": ("centred", "whitened"),
    "basis": ("keep", "refit"),
    "sample_images": (0, 5000),
    "release_label": ("emr-7.14.0", "emr-spark-8.1.0"),
    "master_instance_type": ("u-6tb1.metal", "m7g.xlarge"),
    "core_instance_types": (["c7gd.12xlarge", "g5.xlarge"], [f"c{n}g.2xlarge" for n in range(30)]),
    "deadline_minutes": (1, 1440),
    "min_worker_nodes": (0, 200),
    "max_worker_nodes": (0, 200),
    "max_core_nodes": (1, 200),
    "ebs_gib": (10, 1024),
    "step_time_limit_minutes": (1, 720),
    "idle_timeout_minutes": (1, 1440),
}
"""Values at the limits, and unusual ones that are valid."""

JOBS: dict[str, type[JobArgs]] = {
    **dict.fromkeys(("max_reject_ratio", "images_per_task", "exif_orientation"), FeaturizeArgs),
    **dict.fromkeys(("variance_target", "n_components", "scores", "basis", "sample_images"), PcaArgs),
}
"""The jobs whose arguments these parameters become."""


def is_accepted(param: Param, value: Any) -> bool:
    try:
        param.resolve(value)
    except ParamValidationError:
        return False
    return True


def test_every_parameter_explains_itself_and_has_limits() -> None:
    for name, param in run_params().items():
        schema = param.schema
        assert schema.get("title"), f"{name} has no title for the form"
        assert schema.get("section"), f"{name} has no section in the form"
        assert param.description, f"{name} has no description for the form"
        if {"number", "integer"} & ({schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])):
            assert {"minimum", "exclusiveMinimum"} & set(schema), name
            assert {"maximum", "exclusiveMaximum"} & set(schema), name
        elif schema["type"] == "array":
            assert {"minItems", "maxItems"} <= set(schema), name
        elif schema["type"] == "boolean":
            assert isinstance(param.value, bool), name
        else:
            assert {"pattern", "minLength", "enum"} & set(schema), f"{name} may be empty"


def test_values_outside_the_limits_are_refused() -> None:
    params = run_params()
    assert set(REFUSED) == set(params), "test a refused value of each parameter"
    accepted = [
        (name, value) for name, values in REFUSED.items() for value in values if is_accepted(params[name], value)
    ]
    assert accepted == []


def test_values_at_the_limits_are_accepted_by_the_form_and_by_the_jobs() -> None:
    params = run_params()
    required = {FeaturizeArgs: ("--images=i", "--run=r", "--model=m"), PcaArgs: ("--run=r", "--n-components=9")}
    for name, values in ACCEPTED.items():
        for value in values:
            assert params[name].resolve(value) == value, name
            if job := JOBS.get(name):
                flag = f"--{name.replace('_', '-')}={'none' if value is None else value}"
                assert getattr(job.from_argv([*required[job], flag]), name) == value


def test_defaults_are_valid_and_those_of_the_run_parameters() -> None:
    """A DAG with a schedule does not parse if a default is invalid."""
    assert RunParams.from_params({name: param.resolve() for name, param in run_params().items()}) == RunParams()


def test_deployment_sets_the_architecture_and_the_cost_limit() -> None:
    params = run_params("x86_64", 25.0)
    assert params["master_instance_type"].value == "m7i.xlarge"
    assert params["max_cost_eur"].value == 25.0
