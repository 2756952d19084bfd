"""Names in the runbook exist: parameters, outputs, settings, tasks, files."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from include.deployment.mwaa import AIRFLOW_VERSION
from include.settings.deployment import Settings, environment_name
from include.settings.parameters import RunParams
from tests.infra.policies import ROOT, load_erasure_template, load_template

DOCUMENTS = [ROOT / "docs" / "runbook.md", ROOT / "infra" / "README.md"]
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)


def test_parameters_of_the_stack_are_those_of_the_template() -> None:
    overrides = re.findall(r"--parameter-overrides ([^\n`]+)", TEXT)
    named = {name for line in overrides for name in re.findall(r"([A-Z][A-Za-z0-9]+)=", line)}
    named |= set(re.findall(r"`([A-Z][a-z][A-Za-z]+)=[^`]*`", TEXT))
    template = load_template()
    assert named <= {*template["Parameters"], *load_erasure_template()["Parameters"]}
    needed = {name for name, parameter in template["Parameters"].items() if "Default" not in parameter}
    assert needed <= set(re.findall(r"([A-Z][A-Za-z0-9]+)=", overrides[0])), "the first deployment must set all of them"


def test_outputs_are_those_of_the_template() -> None:
    outputs = {*load_template()["Outputs"], *load_erasure_template()["Outputs"]}
    named = set(re.findall(r"OutputKey=='(\w+)'", TEXT)) | set(re.findall(r"`(For[A-Z]\w+)`", TEXT))
    assert named
    assert named <= outputs
    assert {name for name in outputs if name.startswith("For")} <= named, (
        "the documents must name every output for people"
    )


def test_settings_and_parameters_of_a_run_exist() -> None:
    known = {environment_name(item.name) for item in fields(Settings)} | {"FRUITS_WEIGHTS"}
    assert set(re.findall(r"FRUITS_[A-Z_]+[A-Z]", TEXT)) <= known
    for name in ("max_cost_eur", "core_instance_types", "ebs_gib", "release_label", "idle_timeout_minutes"):
        assert f"`{name}`" in TEXT or f'"{name}"' in TEXT
        assert name in {item.name for item in fields(RunParams)}


def test_quotas_are_computed_from_the_defaults() -> None:
    """Sizes by EC2's naming: xlarge is 4 vCPU, 2xlarge 8 (EC2 instance types, compute and general purpose)."""
    vcpu = {"xlarge": 4, "2xlarge": 8}
    params = RunParams()
    master = vcpu[params.master_instance_type.partition(".")[2]]
    workers = {vcpu[name.partition(".")[2]] for name in params.core_instance_types}
    assert (master, workers) == (4, {8})
    on_demand = master + 8 * params.max_core_nodes
    spot = 8 * (params.max_worker_nodes - params.max_core_nodes)
    assert f"{on_demand} on demand, {spot} of spot, {on_demand + spot} on demand to be safe" in TEXT


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_have_a_target(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", found.lower()).replace(" ", "-") for found in re.findall(r"^#+ (.+)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        else:
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_version_of_mwaa_is_that_of_the_build() -> None:
    assert f"| {AIRFLOW_VERSION}, the newest that it offers" in TEXT
    assert f"--airflow-version {AIRFLOW_VERSION}" in TEXT


def test_types_that_moto_does_not_support_are_listed() -> None:
    from tests.infra.moto_stack import UNSUPPORTED_BY_MOTO

    assert all(f"`{kind}`" in TEXT for kind in UNSUPPORTED_BY_MOTO)
