"""What EMR would reject in a cluster, or accept and fail to start: reported before the request, by setting. Pure.

EMR accepts a request with unusable subnets, security groups or keys, and terminates the cluster minutes later. Limits
of single parameters are not checked here: Airflow has checked them against :mod:`include.settings.parameters` when the
run starts, whoever triggers it. Each rule has its source, mostly the API reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from include.cluster.instance_types import CAPTURED_REGION, RELEASES, InstanceType, instance_types
from include.cluster.request import cluster_name
from include.cluster.sizing import SizingError, check_driver, size_executor, size_single_node
from include.cluster.tags import (
    ALLOWED,
    MAX_KEY_CHARACTERS,
    MAX_TAGS,
    MAX_VALUE_CHARACTERS,
    OUR_TAGS,
    RESERVED_PREFIX,
)
from include.settings.deployment import Architecture, Settings, SettingsError
from include.settings.parameters import RunParams

MAX_NAME_CHARACTERS = 256
"""XmlStringMaxLen256: names of clusters and security configurations (EMR API Reference, RunJobFlow)."""

_SUBNET = re.compile(r"subnet-([0-9a-f]{8}|[0-9a-f]{17})")
_GROUP = re.compile(r"sg-([0-9a-f]{8}|[0-9a-f]{17})")
_KEY = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):[0-9]{12}:key/[A-Za-z0-9-]+")
_ROLE = re.compile(r"(arn:aws[a-z-]*:iam::[0-9]{12}:(role|instance-profile)/)?[\w+=,.@/-]+")
_GROUPS = {
    "FRUITS_MASTER_SECURITY_GROUP": "master_security_group",
    "FRUITS_CORE_SECURITY_GROUP": "core_security_group",
    "FRUITS_SERVICE_SECURITY_GROUP": "service_security_group",
}


def check_cluster(*, slug: str, settings: Settings, params: RunParams) -> None:
    """Check that EMR would create the cluster of a run.

    Parameters
    ----------
    slug : str
        The run's slug.
    settings : Settings
        Region, roles, network, encryption and tags.
    params : RunParams
        Release, instance types, and the minimum of worker nodes.

    Raises
    ------
    SettingsError
        With every wrong setting and parameter, its value and the expected value.
    """
    problems = [
        *_release_problems(params),
        *_type_problems(settings, params),
        *_network_problems(settings),
        *_encryption_problems(settings),
        *_role_problems(settings),
        *_tag_problems(settings.tags),
    ]
    if len(cluster_name(slug)) > MAX_NAME_CHARACTERS:
        problems.append(f"the cluster's name {cluster_name(slug)!r}: expected at most {MAX_NAME_CHARACTERS} characters")
    if problems:
        raise SettingsError(problems)


def _release_problems(params: RunParams) -> Iterable[str]:
    if params.release_label not in RELEASES:
        yield (
            f"release_label={params.release_label!r}: expected one of {', '.join(RELEASES)}; they have what the jobs "
            f"need and are available in {CAPTURED_REGION}"
        )


def _type_problems(settings: Settings, params: RunParams) -> list[str]:
    fleets = {
        "master_instance_type": (params.master_instance_type,),
        "core_instance_types": params.core_instance_types,
    }
    problems = []
    for name, types in fleets.items():
        problems += [f"{name}: {problem}" for type_ in types if (problem := _type_problem(type_, settings))]
    if problems:
        return problems
    known = {name: [instance_types()[type_] for type_ in types] for name, types in fleets.items()}
    if settings.region == CAPTURED_REGION and not _common_zones(known.values()):
        offers = "; ".join(
            f"{name}: {', '.join(f'{t.name} in {t.zones}' for t in types)}" for name, types in known.items()
        )
        problems.append(
            f"no zone of {settings.region} offers a type of each fleet, but a cluster is in a single zone ({offers}): "
            "expected types of master_instance_type and core_instance_types that share a zone"
        )
    try:
        check_driver(known["master_instance_type"][0])
        if params.min_worker_nodes == 0:
            size_single_node(known["master_instance_type"][0])
    except SizingError as error:
        problems.append(f"master_instance_type: {error}")
    try:
        size_executor(known["core_instance_types"])
    except SizingError as error:
        problems.append(f"core_instance_types: {error}")
    return problems


def _type_problem(name: str, settings: Settings) -> str | None:
    """Return what is wrong with an instance type, or None."""
    node = instance_types().get(name)
    if node is None:
        return (
            f"{name!r} is not a known type that EMR supports and {CAPTURED_REGION} offers; expected a type of "
            f"include/cluster/instance_types.tsv, such as {', '.join(_examples(settings.architecture))}"
        )
    if node.architecture != settings.architecture:
        return (
            f"{name!r} is {node.architecture}, but the packages are installed for "
            f"FRUITS_ARCHITECTURE={settings.architecture!r}; expected a type such as "
            f"{', '.join(_examples(settings.architecture))}"
        )
    return None


def _examples(architecture: Architecture) -> tuple[str, ...]:
    return RunParams.for_architecture(architecture).core_instance_types


def _common_zones(fleets: Iterable[Sequence[InstanceType]]) -> set[str]:
    """Return the zones in which at least one type of every fleet is offered."""
    offered = [{zone for node in types for zone in node.zones} for types in fleets]
    return set.intersection(*offered)


def _network_problems(settings: Settings) -> Iterable[str]:
    subnets = settings.subnet_ids
    if settings.profile == "aws" and not subnets:
        yield (
            "FRUITS_SUBNET_IDS (or the Airflow Variable fruits_subnet_ids) is not set; expected private subnets, one "
            "per zone, such as those of the template in infra/: subnet-…,subnet-…"
        )
    for subnet in subnets:
        if not _SUBNET.fullmatch(subnet):
            yield f"FRUITS_SUBNET_IDS: {subnet!r}: expected subnet- and 8 or 17 hexadecimal digits"
    if len(set(subnets)) < len(subnets):
        yield f"FRUITS_SUBNET_IDS={','.join(subnets)!r}: expected each subnet once"
    groups = {name: getattr(settings, field) for name, field in _GROUPS.items()}
    for name, group in groups.items():
        if group and not _GROUP.fullmatch(group):
            yield f"{name}={group!r}: expected sg- and 8 or 17 hexadecimal digits"
    missing = [name for name, group in groups.items() if not group]
    if missing and len(missing) < len(groups):
        # EMR Management Guide, "Specifying Amazon EMR-managed and additional security groups".
        yield (
            f"{' and '.join(missing)} is not set, {' and '.join(name for name in groups if name not in missing)} is: "
            "expected all three or none, since nodes in private subnets need all of them"
        )


def _encryption_problems(settings: Settings) -> Iterable[str]:
    if settings.kms_key:
        key = _KEY.fullmatch(settings.kms_key)
        if not key:
            yield f"FRUITS_KMS_KEY={settings.kms_key!r}: expected arn:aws:kms:{settings.region}:<account>:key/<id>"
        elif key["region"] != settings.region:
            yield (
                f"FRUITS_KMS_KEY={settings.kms_key!r} is a key in {key['region']}: expected a key in "
                f"FRUITS_REGION={settings.region!r}, the region of the logs"
            )
    name = settings.security_configuration
    if name and len(name) > MAX_NAME_CHARACTERS:
        yield f"FRUITS_SECURITY_CONFIGURATION={name!r}: expected at most {MAX_NAME_CHARACTERS} characters"


def _role_problems(settings: Settings) -> Iterable[str]:
    roles = {"FRUITS_SERVICE_ROLE": settings.service_role, "FRUITS_JOB_FLOW_ROLE": settings.job_flow_role}
    for name, role in roles.items():
        if not _ROLE.fullmatch(role):
            yield f"{name}={role!r}: expected the name of a role, or its ARN"


def _tag_problems(tags: Sequence[tuple[str, str]]) -> Iterable[str]:
    ours = sorted(OUR_TAGS & {key for key, _ in tags})
    if ours:
        yield f"FRUITS_TAGS: {', '.join(ours)} is set by the DAG itself"
    if len(tags) > MAX_TAGS - len(OUR_TAGS):
        yield (
            f"FRUITS_TAGS has {len(tags)} tags: expected at most {MAX_TAGS - len(OUR_TAGS)}, since EMR allows "
            f"{MAX_TAGS} and the DAG sets {len(OUR_TAGS)}"
        )
    for key, value in tags:
        if key.lower().startswith(RESERVED_PREFIX) or value.lower().startswith(RESERVED_PREFIX):
            yield f"FRUITS_TAGS: {key}={value}: the prefix aws: is reserved for AWS"
        if len(key) > MAX_KEY_CHARACTERS or len(value) > MAX_VALUE_CHARACTERS:
            yield (
                f"FRUITS_TAGS: {key}={value}: expected a key of at most {MAX_KEY_CHARACTERS} characters and a value of "
                f"at most {MAX_VALUE_CHARACTERS}"
            )
        if not (ALLOWED.fullmatch(key) and ALLOWED.fullmatch(value)):
            yield f"FRUITS_TAGS: {key}={value}: expected letters, digits, spaces and _ . : / = + - @ only"
