"""The captured table against moto's captures of EC2's and EMR's own answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from moto.utilities.utils import load_resource

from include.cluster.instance_types import CAPTURED_REGION, RELEASES, instance_types
from include.settings.parameters import DEFAULT_INSTANCE_TYPES, RunParams

ROOT = Path(__file__).resolve().parents[3]


def test_table_is_what_the_script_would_write() -> None:
    command = [sys.executable, "scripts/capture_instance_types.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sizes_and_architectures_are_those_of_ec2() -> None:
    captured = load_resource("ec2/resources/instance_types.json")
    assert len(instance_types()) > 300
    for name, found in instance_types().items():
        told = captured[name]
        assert found.vcpus == told["VCpuInfo"]["DefaultVCpus"]
        assert found.memory_mib == told["MemoryInfo"]["SizeInMiB"]
        assert told["ProcessorInfo"]["SupportedArchitectures"] == [found.architecture]
        assert "on-demand" in told["SupportedUsageClasses"]
        assert "spot" in told["SupportedUsageClasses"], "task nodes are spot"


def test_zones_are_those_that_offer_the_type() -> None:
    offerings = load_resource(f"ec2/resources/instance_type_offerings/availability-zone/{CAPTURED_REGION}.json")
    offered = {(item["InstanceType"], item["Location"]) for item in offerings}
    zones = {location for _, location in offered}
    for name, found in instance_types().items():
        assert found.zones
        assert {z for z in zones if (name, z) in offered} == {f"{CAPTURED_REGION}{letter}" for letter in found.zones}


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_is_offered_in_the_region_and_supports_every_type(release: str) -> None:
    assert release in load_resource(f"emr/resources/release-labels-{CAPTURED_REGION}.json")
    assert set(instance_types()) <= set(load_resource(f"emr/resources/instance-types-{release}.json"))


@pytest.mark.parametrize("architecture", sorted(DEFAULT_INSTANCE_TYPES))
def test_default_types_are_of_their_architecture_and_in_all_three_zones(architecture: str) -> None:
    params = RunParams.for_architecture(architecture)
    assert params.release_label in RELEASES
    for name in (params.master_instance_type, *params.core_instance_types):
        assert instance_types()[name].architecture == architecture
        assert instance_types()[name].zones == "abc"
