"""What EMR would reject is reported before the request, by setting, all problems at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from include.cluster.instance_types import instance_types
from include.cluster.rules import check_cluster
from include.settings.deployment import Settings, SettingsError
from include.settings.parameters import RunParams
from tests.include.golden.regenerate import SECURED, SLUG

KEY = "arn:aws:kms:{}:123456789012:key/01234567-89ab-cdef-0123-456789abcdef"
SETTINGS = replace(SECURED, architecture="arm64")


def problems(settings: Settings = SETTINGS, params: RunParams | None = None, slug: str = SLUG) -> list[str]:
    try:
        check_cluster(slug=slug, settings=settings, params=params or RunParams())
    except SettingsError as error:
        return error.problems
    return []


def test_defaults_pass() -> None:
    assert problems() == []


def test_parameter_that_emr_would_reject_is_named() -> None:
    for name, value, text in (
        ("release_label", "emr-spark-9.9.9", "expected one of emr-spark-8.1.0, "),
        ("release_label", "emr-6.15.0", "they have what the jobs need"),
        ("master_instance_type", "m9z.xlarge", "'m9z.xlarge' is not a known type that EMR supports"),
        ("master_instance_type", "m7a.xlarge", "is not a known type"),  # supported by EMR, not offered in eu-west-3
        ("master_instance_type", "t4g.xlarge", "is not a known type"),  # offered in eu-west-3, not supported by EMR
        ("master_instance_type", "m7i.xlarge", "is x86_64, but the packages are installed for FRUITS_ARCH"),
        ("master_instance_type", "c7g.xlarge", "has 8192 MiB; expected 10240 or more"),
        ("core_instance_types", ("c7g.2xlarge", "c7i.2xlarge"), "such as c7g.2xlarge, c8g.2xlarge, c6g.2xlarge"),
    ):
        (problem,) = problems(params=replace(RunParams(), **{name: value}))
        assert problem.startswith(name)
        assert text in problem


def test_setting_that_emr_would_reject_is_named() -> None:
    for name, value, text in (
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
        ("kms_key", KEY.format("us-east-1"), "is a key in us-east-1: expected a key in FRUITS_REGION='eu-west-3'"),
        ("security_configuration", "x" * 257, "FRUITS_SECURITY_CONFIGURATION="),
        ("service_role", "arn:aws:iam::1:role/x", "FRUITS_SERVICE_ROLE="),
        ("job_flow_role", "no spaces", "FRUITS_JOB_FLOW_ROLE='no spaces'"),
        ("tags", (("aws:owner", "x"),), "FRUITS_TAGS: aws:owner=x: the prefix aws: is reserved"),
        ("tags", (("owner", "AWS:x"),), "the prefix aws: is reserved"),
        ("tags", (("k" * 129, "x"),), "FRUITS_TAGS: kkk"),
        ("tags", (("key", "v" * 257),), "a value of at most 256"),
        ("tags", (("key", "a;b"),), "FRUITS_TAGS: key=a;b: expected letters, digits, spaces and _ . : / = + - @ only"),
        ("tags", (("fruit-features:run", "x"),), "FRUITS_TAGS: fruit-features:run is set by the DAG itself"),
        ("tags", (("project", "x"),), "FRUITS_TAGS: project is set by the DAG itself"),
        ("tags", tuple((f"k{n}", "x") for n in range(45)), "FRUITS_TAGS has 45 tags: expected at most 44"),
    ):
        (problem,) = problems(replace(SETTINGS, **{name: value}))
        assert text in problem


def test_instance_types_must_have_the_architecture_of_the_packages() -> None:
    reported = problems(replace(SETTINGS, architecture="x86_64"))
    assert len(reported) == 4, "one of the primary node, three of the others"
    assert all("FRUITS_ARCHITECTURE='x86_64'" in problem for problem in reported)
    assert problems(replace(SETTINGS, architecture="x86_64"), RunParams.for_architecture("x86_64")) == []


def test_fleets_with_a_common_zone_are_accepted() -> None:
    """A cluster is in one zone: c7gd is offered in a and b, r8gd in b and c, so both are in b."""
    together = replace(RunParams(), master_instance_type="r8gd.xlarge", core_instance_types=("c7gd.2xlarge",))
    assert problems(params=together) == []
    x86 = replace(SETTINGS, architecture="x86_64")
    apart = replace(RunParams(), master_instance_type="c5a.2xlarge", core_instance_types=("r5dn.2xlarge",))
    assert problems(x86, apart) == [], "both in a"
    offered = {name: instance_types()[name].zones for name in ("c5a.2xlarge", "r5dn.2xlarge")}
    assert offered == {"c5a.2xlarge": "ac", "r5dn.2xlarge": "ab"}


def test_types_that_share_no_zone_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any two types of the table share a zone, so the test moves one."""
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


def test_primary_node_that_cannot_work_alone_is_rejected_unless_there_are_always_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """12 GiB are enough for the driver and the daemons, but not for an executor beside them."""
    table = dict(instance_types())
    table["m7g.xlarge"] = replace(table["m7g.xlarge"], memory_mib=12 * 1024)
    monkeypatch.setattr("include.cluster.rules.instance_types", lambda: table)
    (problem,) = problems()
    assert problem.startswith(
        "master_instance_type: 'm7g.xlarge' has 12288 MiB, of which an executor beside the driver"
    )
    assert problem.endswith("or min_worker_nodes of 1 or more")
    assert problems(params=replace(RunParams(), min_worker_nodes=1)) == []


def test_name_that_is_too_long_is_rejected() -> None:
    assert problems(slug="s" * 241) == []
    (problem,) = problems(slug="s" * 242)
    assert "the cluster's name" in problem


def test_all_problems_come_at_once() -> None:
    params = replace(RunParams(), release_label="x", master_instance_type="y")
    assert len(problems(replace(SETTINGS, kms_key="z", subnet_ids=()), params)) == 4


def test_local_profile_needs_no_network_of_aws() -> None:
    assert problems(Settings(profile="local")) == []


def test_no_security_group_is_as_good_as_all_three() -> None:
    groups = dict.fromkeys(("master_security_group", "core_security_group", "service_security_group"))
    assert problems(replace(SETTINGS, **groups)) == []
