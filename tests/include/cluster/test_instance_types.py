"""The table of instance types, against moto's captures of EC2's and EMR's responses."""

from __future__ import annotations

import runpy
from pathlib import Path

from moto.utilities.utils import load_resource

from include.cluster.instance_types import CAPTURED_REGION, RELEASES, instance_types
from include.settings.parameters import DEFAULT_INSTANCE_TYPES, RunParams

ROOT = Path(__file__).resolve().parents[3]


def test_table_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "capture_instance_types.py"))
    assert script["TARGET"].read_text(encoding="utf-8") == script["table"]()


def test_every_type_can_be_bought_on_demand_and_as_spot() -> None:
    captured = load_resource("ec2/resources/instance_types.json")
    assert len(instance_types()) > 300
    for name in instance_types():
        assert {"on-demand", "spot"} <= set(captured[name]["SupportedUsageClasses"]), name


def test_every_release_is_available_in_the_region_and_supports_every_type() -> None:
    assert set(RELEASES) <= set(load_resource(f"emr/resources/release-labels-{CAPTURED_REGION}.json"))
    for release in RELEASES:
        assert set(instance_types()) <= set(load_resource(f"emr/resources/instance-types-{release}.json")), release


def test_default_types_have_their_architecture_and_are_offered_in_all_three_zones() -> None:
    for architecture in DEFAULT_INSTANCE_TYPES:
        params = RunParams.for_architecture(architecture)
        assert params.release_label in RELEASES
        for name in (params.master_instance_type, *params.core_instance_types):
            assert instance_types()[name].architecture == architecture
            assert instance_types()[name].zones == "abc"
