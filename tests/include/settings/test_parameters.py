"""The parameters of a run: what open_run validates, and what it passes on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from include.settings.deployment import SettingsError
from include.settings.parameters import RunParams

SENT: dict[str, Any] = asdict(RunParams())
"""The Params as Airflow passes them to a task."""


def problems(params: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        RunParams.from_params(params)
    return caught.value.problems


def test_lists_of_the_form_become_tuples() -> None:
    sent = SENT | {"variance_target": 0.9, "core_instance_types": ["m7g.xlarge"]}
    assert RunParams.from_params(sent) == replace(RunParams(), variance_target=0.9, core_instance_types=("m7g.xlarge",))


def test_missing_and_unknown_parameters_are_all_reported() -> None:
    missing = {"data_prefix", "images_per_task"}
    sent = {name: value for name, value in SENT.items() if name not in missing} | {"variance": 0.9, "prefix": "data"}
    assert problems(sent) == [
        "the parameter 'data_prefix' is missing",
        "the parameter 'images_per_task' is missing",
        "'prefix' is not a parameter of this DAG",
        "'variance' is not a parameter of this DAG",
    ]


def test_number_of_components_or_share_of_the_variance_is_required() -> None:
    assert RunParams.from_params(SENT | {"variance_target": None, "n_components": 40}).variance_target is None
    assert RunParams.from_params(SENT | {"n_components": 40}).variance_target == 0.8
    expected = ["variance_target and n_components are both empty; expected one of them, or both"]
    assert problems(SENT | {"variance_target": None}) == expected


def test_minimum_of_worker_nodes_is_at_most_their_maximum() -> None:
    assert RunParams.from_params(SENT | {"min_worker_nodes": 4, "max_worker_nodes": 4}).min_worker_nodes == 4
    assert problems(SENT | {"min_worker_nodes": 5, "max_worker_nodes": 4}) == [
        "min_worker_nodes=5: expected at most max_worker_nodes=4"
    ]


def test_whole_numbers_that_json_has_as_floats_become_integers() -> None:
    """The form's JSON schema accepts 40.0 as an integer; ``--n-components=40.0`` would fail on the cluster."""
    params = RunParams.from_params(SENT | {"n_components": 40.0, "images_per_task": 9.0, "max_reject_ratio": 1.0})
    assert [repr(params.n_components), repr(params.images_per_task)] == ["40", "9"]
    assert repr(params.max_reject_ratio) == "1.0"


def test_validated_parameters_are_the_same_in_a_later_task() -> None:
    params = replace(RunParams.for_architecture("x86_64"), variance_target=None, n_components=40, max_cost_eur=2.5)
    assert RunParams.from_record(json.loads(json.dumps(asdict(params)))) == params
