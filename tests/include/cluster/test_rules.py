"""What EMR would reject is rejected before it is asked, with the name of the setting; and all at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from include.cluster.instance_types import instance_types
from include.cluster.rules import check_cluster
from include.settings.deployment import Settings, SettingsError, read_settings
from include.settings.parameters import RunParams
from tests.include.golden.regenerate import SECURED, SLUG

KEY = "arn:aws:kms:{}:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
SETTINGS = replace(SECURED, architecture="arm64")
GRAVITON = [name for name, found in instance_types().items() if found.architecture == "arm64"]


def problems(settings: Settings = SETTINGS, params: RunParams | None = None, slug: str = SLUG) -> list[str]:
    try:
        check_cluster(slug=slug, settings=settings, params=params or RunParams())
    except SettingsError as error:
        return error.problems
    return []


def test_defaults_pass() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("release_label", "emr-spark-9.9.9", "expected one of emr-spark-8.1.0, "),
        ("release_label", "emr-6.15.0", "which have what the jobs need"),
        ("release_label", "latest", "emr-7.14.0"),
        ("master_instance_type", "m9z.xlarge", "'m9z.xlarge' is not known to be supported by EMR"),
        ("master_instance_type", "m7a.xlarge", "is not known"),  # EMR has it, eu-west-3 has not
        ("master_instance_type", "t4g.xlarge", "is not known"),  # eu-west-3 has it, EMR has not
        ("master_instance_type", "m7i.xlarge", "is x86_64, and the packages are installed for FRUITS_ARCH"),
        ("master_instance_type", "c7g.xlarge", "has 8192 MiB; expected 10240 or more"),
        ("core_instance_types", ("c7g.2xlarge", "c7i.2xlarge"), "such as c7g.2xlarge, c8g.2xlarge, c6g.2xlarge"),
        ("core_instance_types", ("c7g.2xlarge", "c8g.2xlarge", "c7g.2xlarge"), "'c7g.2xlarge' is there 2 times"),
        ("core_instance_types", tuple(GRAVITON[:31]), "has 31 types: expected 1 to 30"),
        ("core_instance_types", (), "has 0 types"),
        ("core_instance_count", 0, "core_instance_count=0: expected 1 or more"),
        ("task_instance_count", -1, "task_instance_count=-1: expected 0 or more"),
        ("ebs_gib", 9, "ebs_gib=9: expected 10 to 1024"),
        ("ebs_gib", 1025, "ebs_gib=1025"),
        ("idle_timeout_minutes", 0, "idle_timeout_minutes=0: expected 1 to 10080"),
        ("idle_timeout_minutes", 10_081, "idle_timeout_minutes=10081"),
    ],
)  # fmt: skip
def test_parameter_that_emr_would_reject_is_named(name: str, value: Any, said: str) -> None:
    (problem,) = problems(params=replace(RunParams(), **{name: value}))
    assert problem.startswith(name)
    assert said in problem


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("subnet_ids", (), "FRUITS_SUBNET_IDS (or the Airflow Variable fruits_subnet_ids) is not set"),
        ("subnet_ids", ("subnet-xyz",), "FRUITS_SUBNET_IDS: 'subnet-xyz': expected subnet- and 8 or 17"),
        ("subnet_ids", ("subnet-0123abcd", "subnet-0123abcd"), "FRUITS_SUBNET_IDS='subnet-0123abcd,subnet"),
        ("master_security_group", "default", "FRUITS_MASTER_SECURITY_GROUP='default': expected sg- and"),
        ("core_security_group", "sg-1", "FRUITS_CORE_SECURITY_GROUP='sg-1'"),
        ("service_security_group", "sg-xyz", "FRUITS_SERVICE_SECURITY_GROUP='sg-xyz'"),
        ("service_security_group", None, "FRUITS_SERVICE_SECURITY_GROUP is not set, FRUITS_"),
        ("master_security_group", None, "FRUITS_MASTER_SECURITY_GROUP is not set"),
        ("core_security_group", None, "FRUITS_CORE_SECURITY_GROUP is not set"),
        ("kms_key", "alias/logs", "FRUITS_KMS_KEY='alias/logs': expected arn:aws:kms:eu-west-3:<account>:key/<id>"),
        ("kms_key", KEY.format("us-east-1"), "is a key in us-east-1: expected one in FRUITS_REGION='eu-west-3'"),
        ("security_configuration", "x" * 257, "FRUITS_SECURITY_CONFIGURATION="),
        ("service_role", "arn:aws:iam::1:role/x", "FRUITS_SERVICE_ROLE="),
        ("job_flow_role", "no spaces", "FRUITS_JOB_FLOW_ROLE='no spaces'"),
        ("tags", (("aws:owner", "x"),), "FRUITS_TAGS: aws:owner=x: the prefix aws: is reserved"),
        ("tags", (("owner", "AWS:x"),), "the prefix aws: is reserved"),
        ("tags", (("k" * 129, "x"),), "FRUITS_TAGS: kkk"),
        ("tags", (("key", "v" * 257),), "a value of 256 at most"),
        ("tags", (("key", "a;b"),), "FRUITS_TAGS: key=a;b: expected letters, digits, spaces and _ . : / = + - @ only"),
        ("tags", (("fruit-features:run", "x"),), "FRUITS_TAGS: fruit-features:run is set by the run itself"),
        ("tags", (("project", "x"),), "FRUITS_TAGS: project is set by the run itself"),
        ("tags", tuple((f"k{n}", "x") for n in range(45)), "FRUITS_TAGS has 45 tags: expected 44 at most"),
    ],
)  # fmt: skip
def test_setting_that_emr_would_reject_is_named(name: str, value: Any, said: str) -> None:
    (problem,) = problems(replace(SETTINGS, **{name: value}))
    assert said in problem


def test_architecture_of_types_and_packages_has_to_be_one() -> None:
    found = problems(replace(SETTINGS, architecture="x86_64"))
    assert len(found) == 4, "one of the primary node, three of the others"
    assert all("FRUITS_ARCHITECTURE='x86_64'" in problem for problem in found)
    assert problems(replace(SETTINGS, architecture="x86_64"), RunParams.for_architecture("x86_64")) == []


def test_fleets_without_a_common_zone_are_told_with_their_zones() -> None:
    """A cluster is in one zone: c7gd is in a and b only, r8gd in b and c, and both are in b."""
    together = replace(RunParams(), master_instance_type="r8gd.xlarge", core_instance_types=("c7gd.2xlarge",))
    assert problems(params=together) == []
    x86 = replace(SETTINGS, architecture="x86_64")
    apart = replace(RunParams(), master_instance_type="c5a.2xlarge", core_instance_types=("r5dn.2xlarge",))
    assert problems(x86, apart) == [], "both in a"
    offered = {name: instance_types()[name].zones for name in ("c5a.2xlarge", "r5dn.2xlarge")}
    assert offered == {"c5a.2xlarge": "ac", "r5dn.2xlarge": "ab"}


def test_types_that_share_no_zone_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two types of today's table are apart: one is moved."""
    table = dict(instance_types())
    table["m7g.xlarge"] = replace(table["m7g.xlarge"], zones="c")
    table["c7gd.2xlarge"] = replace(table["c7gd.2xlarge"], zones="ab")
    monkeypatch.setattr("include.cluster.rules.instance_types", lambda: table)
    (problem,) = problems(params=replace(RunParams(), core_instance_types=("c7gd.2xlarge",)))
    assert "no zone of eu-west-3 offers a type of each fleet" in problem
    assert "master_instance_type: m7g.xlarge in c; core_instance_types: c7gd.2xlarge in ab" in problem


def test_type_too_small_for_an_executor_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    table = dict(instance_types())
    table["c7g.2xlarge"] = replace(table["c7g.2xlarge"], memory_mib=8192)
    monkeypatch.setattr("include.cluster.rules.instance_types", lambda: table)
    (problem,) = problems()
    assert problem.startswith("core_instance_types: 'c7g.2xlarge' has 8 vCPUs and 8192 MiB")


def test_name_that_is_too_long_is_rejected() -> None:
    assert problems(slug="s" * 241) == []
    (problem,) = problems(slug="s" * 242)
    assert "the cluster's name" in problem


def test_all_problems_come_at_once() -> None:
    params = replace(RunParams(), release_label="x", ebs_gib=0, master_instance_type="y")
    assert len(problems(replace(SETTINGS, kms_key="z", subnet_ids=()), params)) == 5


def test_local_profile_needs_no_network_of_aws() -> None:
    assert problems(Settings(profile="local")) == []


def test_no_security_group_is_as_good_as_all_three() -> None:
    groups = dict.fromkeys(("master_security_group", "core_security_group", "service_security_group"))
    assert problems(replace(SETTINGS, **groups)) == []


ENVIRON = {
    "FRUITS_ARCHITECTURE": "x86_64",
    "FRUITS_LOGS": "s3://logs/emr/",
    "FRUITS_KMS_KEY": KEY.format("eu-west-3"),
    "FRUITS_SECURITY_CONFIGURATION": "fruit-features",
    "FRUITS_MASTER_SECURITY_GROUP": "sg-0123abcd",
    "FRUITS_CORE_SECURITY_GROUP": "sg-1123abcd",
    "FRUITS_SERVICE_SECURITY_GROUP": "sg-2123abcd",
    "FRUITS_SUBNET_IDS": "subnet-0123abcd, subnet-1123abcd",
    "FRUITS_TAGS": "team=data, cost-centre = 12=3",
}


def test_settings_of_the_cluster_come_from_the_environment() -> None:
    found = read_settings(ENVIRON)
    assert found.architecture == "x86_64"
    assert found.logs == "s3://logs/emr"
    assert found.subnet_ids == ("subnet-0123abcd", "subnet-1123abcd")
    assert found.tags == (("team", "data"), ("cost-centre", "12=3"))
    assert problems(found, RunParams.for_architecture("x86_64")) == []


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("FRUITS_ARCHITECTURE", "aarch64", "'arm64' or 'x86_64'"),
        ("FRUITS_LOGS", "bucket", "s3://bucket"),
        ("FRUITS_TAGS", "team", "key=value"),
        ("FRUITS_TAGS", "=data", "key=value"),
        ("FRUITS_TAGS", "team=a,team=b", "each key once"),
    ],
)
def test_setting_that_cannot_be_read_is_named(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        read_settings({name: value})
    assert expected in str(caught.value)
