"""What EMR would reject of a cluster, or start and then fail: found here first, with the setting's name. Pure.

EMR takes a request whose subnets, groups or keys make no sense, and ends the cluster minutes later; each rule has its
source, mostly the API's own description.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from include.cluster.instance_types import CAPTURED_REGION, RELEASES, InstanceType, instance_types
from include.cluster.request import cluster_name
from include.cluster.sizing import SizingError, check_driver, size_executor
from include.cluster.tags import (
    ALLOWED,
    MOST_KEY_CHARACTERS,
    MOST_TAGS,
    MOST_VALUE_CHARACTERS,
    OUR_TAGS,
    RESERVED_PREFIX,
)
from include.settings.deployment import Architecture, Settings, SettingsError
from include.settings.parameters import RunParams

MOST_TYPES = 30
"""Types of a fleet with an allocation strategy (EMR API Reference, InstanceTypeConfig)."""

IDLE_SECONDS = (60, 604_800)
"""AutoTerminationPolicy's IdleTimeout (EMR API Reference)."""

EBS_GIB = (10, 1024)
"""SizeInGB of an EBS-optimized volume (EMR API Reference, VolumeSpecification)."""

MOST_NAME_CHARACTERS = 256
"""XmlStringMaxLen256: a cluster's name and that of its security configuration (EMR API Reference, RunJobFlow)."""

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
    """Check that EMR would make the cluster of a run.

    Parameters
    ----------
    slug : str
        The run's slug.
    settings : Settings
        Region, roles, network, encryption and tags.
    params : RunParams
        Release, instance types and counts, disks, idle time-out.

    Raises
    ------
    SettingsError
        With every setting and parameter that is wrong, its value and what was expected.
    """
    problems = [
        *_release_problems(params),
        *_type_problems(settings, params),
        *_count_problems(params),
        *_network_problems(settings),
        *_encryption_problems(settings),
        *_role_problems(settings),
        *_tag_problems(settings.tags),
    ]
    if len(cluster_name(slug)) > MOST_NAME_CHARACTERS:
        problems.append(
            f"the cluster's name {cluster_name(slug)!r}: expected {MOST_NAME_CHARACTERS} characters at most"
        )
    if problems:
        raise SettingsError(problems)


def _release_problems(params: RunParams) -> Iterable[str]:
    if params.release_label not in RELEASES:
        yield (
            f"release_label={params.release_label!r}: expected one of {', '.join(RELEASES)}, which have what the jobs "
            f"need and are offered in {CAPTURED_REGION}"
        )


def _type_problems(settings: Settings, params: RunParams) -> list[str]:
    fleets = {
        "master_instance_type": (params.master_instance_type,),
        "core_instance_types": params.core_instance_types,
    }
    problems = []
    for name, types in fleets.items():
        if not 1 <= len(types) <= MOST_TYPES:
            problems.append(f"{name} has {len(types)} types: expected 1 to {MOST_TYPES}")
        problems += [f"{name}: {type_!r} is there {n} times" for type_, n in Counter(types).items() if n > 1]
        problems += [f"{name}: {problem}" for type_ in dict.fromkeys(types) if (problem := _unfit(type_, settings))]
    if problems:
        return problems
    known = {name: [instance_types()[type_] for type_ in types] for name, types in fleets.items()}
    if settings.region == CAPTURED_REGION and not _common_zones(known.values()):
        offers = "; ".join(
            f"{name}: {', '.join(f'{t.name} in {t.zones}' for t in types)}" for name, types in known.items()
        )
        problems.append(
            f"no zone of {settings.region} offers a type of each fleet, and a cluster is in one zone ({offers}): "
            "expected types of master_instance_type and core_instance_types that share one"
        )
    try:
        check_driver(known["master_instance_type"][0])
    except SizingError as error:
        problems.append(f"master_instance_type: {error}")
    try:
        size_executor(known["core_instance_types"])
    except SizingError as error:
        problems.append(f"core_instance_types: {error}")
    return problems


def _unfit(name: str, settings: Settings) -> str | None:
    """Return what is wrong with one type, or None."""
    found = instance_types().get(name)
    if found is None:
        return (
            f"{name!r} is not known to be supported by EMR and offered in {CAPTURED_REGION}; expected a type of "
            f"include/cluster/instance_types.tsv, such as {', '.join(_examples(settings.architecture))}"
        )
    if found.architecture != settings.architecture:
        return (
            f"{name!r} is {found.architecture}, and the packages are installed for "
            f"FRUITS_ARCHITECTURE={settings.architecture!r}; expected a type of that, such as "
            f"{', '.join(_examples(settings.architecture))}"
        )
    return None


def _examples(architecture: Architecture) -> tuple[str, ...]:
    return RunParams.for_architecture(architecture).core_instance_types


def _common_zones(fleets: Iterable[Sequence[InstanceType]]) -> set[str]:
    """Return the zones in which every fleet has a type."""
    offered = [{zone for node in types for zone in node.zones} for types in fleets]
    return set.intersection(*offered)


def _count_problems(params: RunParams) -> Iterable[str]:
    low, high = EBS_GIB
    if not low <= params.ebs_gib <= high:
        yield f"ebs_gib={params.ebs_gib}: expected {low} to {high}"
    low, high = IDLE_SECONDS
    if not low <= params.idle_timeout_minutes * 60 <= high:
        yield f"idle_timeout_minutes={params.idle_timeout_minutes}: expected {low // 60} to {high // 60}"
    if params.core_instance_count < 1:
        yield f"core_instance_count={params.core_instance_count}: expected 1 or more"
    if params.task_instance_count < 0:
        yield f"task_instance_count={params.task_instance_count}: expected 0 or more"


def _network_problems(settings: Settings) -> Iterable[str]:
    subnets = settings.subnet_ids
    if settings.profile == "aws" and not subnets:
        yield (
            "FRUITS_SUBNET_IDS (or the Airflow Variable fruits_subnet_ids) is not set; expected private subnets, one a "
            "zone, such as the template in infra/ makes: subnet-…,subnet-…"
        )
    for subnet in subnets:
        if not _SUBNET.fullmatch(subnet):
            yield f"FRUITS_SUBNET_IDS: {subnet!r}: expected subnet- and 8 or 17 hexadecimal digits"
    if len(set(subnets)) < len(subnets):
        yield f"FRUITS_SUBNET_IDS={','.join(subnets)!r}: expected each once"
    groups = {name: getattr(settings, field) for name, field in _GROUPS.items()}
    for name, group in groups.items():
        if group and not _GROUP.fullmatch(group):
            yield f"{name}={group!r}: expected sg- and 8 or 17 hexadecimal digits"
    missing = [name for name, group in groups.items() if not group]
    if missing and len(missing) < len(groups):
        # EMR Management Guide, "Specifying Amazon EMR-managed and additional security groups".
        yield (
            f"{' and '.join(missing)} is not set, {' and '.join(name for name in groups if name not in missing)} is: "
            "expected all three or none, since nodes in private subnets need each"
        )


def _encryption_problems(settings: Settings) -> Iterable[str]:
    if settings.kms_key:
        key = _KEY.fullmatch(settings.kms_key)
        if not key:
            yield f"FRUITS_KMS_KEY={settings.kms_key!r}: expected arn:aws:kms:{settings.region}:<account>:key/<id>"
        elif key["region"] != settings.region:
            yield (
                f"FRUITS_KMS_KEY={settings.kms_key!r} is a key in {key['region']}: expected one in "
                f"FRUITS_REGION={settings.region!r}, where the logs are"
            )
    name = settings.security_configuration
    if name and len(name) > MOST_NAME_CHARACTERS:
        yield f"FRUITS_SECURITY_CONFIGURATION={name!r}: expected {MOST_NAME_CHARACTERS} characters at most"


def _role_problems(settings: Settings) -> Iterable[str]:
    roles = {"FRUITS_SERVICE_ROLE": settings.service_role, "FRUITS_JOB_FLOW_ROLE": settings.job_flow_role}
    for name, role in roles.items():
        if not _ROLE.fullmatch(role):
            yield f"{name}={role!r}: expected the name of a role, or its ARN"


def _tag_problems(tags: Sequence[tuple[str, str]]) -> Iterable[str]:
    ours = sorted(OUR_TAGS & {key for key, _ in tags})
    if ours:
        yield f"FRUITS_TAGS: {', '.join(ours)} is set by the run itself"
    if len(tags) > MOST_TAGS - len(OUR_TAGS):
        yield f"FRUITS_TAGS has {len(tags)} tags: expected {MOST_TAGS - len(OUR_TAGS)} at most, beside the run's own"
    for key, value in tags:
        if key.lower().startswith(RESERVED_PREFIX) or value.lower().startswith(RESERVED_PREFIX):
            yield f"FRUITS_TAGS: {key}={value}: the prefix aws: is reserved for AWS"
        if not key or len(key) > MOST_KEY_CHARACTERS or len(value) > MOST_VALUE_CHARACTERS:
            yield (
                f"FRUITS_TAGS: {key}={value}: expected a key of 1 to {MOST_KEY_CHARACTERS} characters and a value of "
                f"{MOST_VALUE_CHARACTERS} at most"
            )
        if not (ALLOWED.fullmatch(key) and ALLOWED.fullmatch(value)):
            yield f"FRUITS_TAGS: {key}={value}: expected letters, digits, spaces and _ . : / = + - @ only"
