"""What EMR rejects and the service model does not (:mod:`local.emr.api.service_model` checks before): pure functions.

Some limits are also in ``include/settings/parameters.py`` and ``include/cluster/``. Here they are the limits of the
service for any client, independent of the DAG: the endpoint imports nothing from ``include``.

The messages for unknown ids, termination protection, modified finished clusters and active steps are EMR's. Where EMR's
message is not published, the endpoint's own message says what is expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from moto.utilities.utils import load_resource

from local.emr.clusters.errors import ValidationError
from local.emr.clusters.limits import check_step_strings
from local.emr.spark.commands import is_debugging_setup

MAX_ACTIVE_STEPS = 256
MAX_CONCURRENT_STEPS = 256
IDLE_TIMEOUT_SECONDS = (60, 604_800)
RELEASE_LABEL = re.compile(r"emr-(spark-)?\d+\.\d+\.\d+")
COMMAND_RUNNER = "command-runner.jar"
SCRIPT_RUNNER = "script-runner.jar"
MAX_TYPES = 5
MAX_TYPES_WITH_STRATEGY = 30
VOLUME_GIB = (1, 1024)
VOLUME_TYPES = ("gp3", "gp2", "io1", "st1", "sc1", "standard")  # not an enumeration in the service model
SPOT_TIMEOUT_MINUTES = (5, 1440)
MASTERS = (1, 3)
"""Number of primary nodes; three make a cluster with high availability."""
FIRST_RELEASE_WITH_CUSTOM_AMI = (5, 7, 0)
MAX_TAGS = 50
TAG_TEXT = re.compile(r"[\w\s.:/=+\-@]*")


@cache
def release_labels(region: str) -> tuple[str, ...]:
    """Return the release labels of a region, as moto recorded them from ListReleaseLabels.

    Raises
    ------
    ValidationError
        If EMR is not offered in the region.
    """
    try:
        return tuple(load_resource(f"emr/resources/release-labels-{region}.json"))
    except FileNotFoundError:
        raise ValidationError(f"Amazon EMR is not offered in the region {region!r}.") from None


@cache
def _instance_types(release_label: str) -> frozenset[str]:
    """Return the instance types of a release, as moto recorded them; empty if moto has no list for the release."""
    try:
        return frozenset(load_resource(f"emr/resources/instance-types-{release_label}.json"))
    except FileNotFoundError:
        return frozenset()


def check_run_job_flow(request: Mapping[str, Any], region: str) -> None:
    """Reject a RunJobFlow request as EMR would.

    Raises
    ------
    ValidationError
        For the first error in the request.
    """
    label = request.get("ReleaseLabel")
    _check_images(label, request.get("AmiVersion"), request.get("CustomAmiId"))
    if not label or not RELEASE_LABEL.fullmatch(label) or label not in release_labels(region):
        raise ValidationError(f"The supplied release label is invalid: {label}.")
    if not request.get("ServiceRole"):
        raise ValidationError("ServiceRole is required for creating cluster.")
    if not request.get("JobFlowRole"):
        raise ValidationError("InstanceProfile is required for creating cluster.")
    instances = request.get("Instances") or {}
    _check_instances(instances, label)
    _check_log_uri(request.get("LogUri"))
    check_tags(request.get("Tags") or [])
    level = request.get("StepConcurrencyLevel", 1)
    check_concurrency(level)
    check_steps(request.get("Steps") or [], level, active=0)
    if "AutoTerminationPolicy" in request:
        check_auto_termination(request["AutoTerminationPolicy"])
    if "ManagedScalingPolicy" in request:
        check_managed_scaling(request["ManagedScalingPolicy"], fleets=bool(instances.get("InstanceFleets")))


def _check_images(label: str | None, ami_version: str | None, custom_ami: str | None) -> None:
    """Reject an AmiVersion (releases before 4.0, which this endpoint does not offer) and an early CustomAmiId."""
    if label and ami_version:
        raise ValidationError(
            "Only one AMI version and release label may be specified. "
            f"Provided AMI: {ami_version}, release label: {label}."
        )
    if custom_ami and ami_version:
        raise ValidationError("Custom AMI is not supported in this version of EMR")
    if ami_version:
        raise ValidationError(f"AmiVersion {ami_version} is not supported: use ReleaseLabel.")
    if custom_ami and label and release_version(label) < FIRST_RELEASE_WITH_CUSTOM_AMI:
        raise ValidationError("Custom AMI is not allowed")


def release_version(label: str) -> tuple[int, ...]:
    """Return the numbers of a release label. ``emr-spark-8.1.0`` is later than every ``emr-x.y.z``."""
    return tuple(int(number) for number in re.findall(r"\d+", label))


def _check_instances(instances: Mapping[str, Any], label: str) -> None:
    groups, fleets = instances.get("InstanceGroups") or [], instances.get("InstanceFleets") or []
    simple = instances.get("MasterInstanceType")
    if groups and fleets:
        raise ValidationError(
            "Instance fleets and instance groups are mutually exclusive. "
            "The EMR cluster specified in the request uses both."
        )
    if not (groups or fleets or simple):
        raise ValidationError(
            "Instances must name InstanceGroups, InstanceFleets, or MasterInstanceType with InstanceCount."
        )
    _check_members(groups, "InstanceRole")
    _check_members(fleets, "InstanceFleetType")
    for fleet in fleets:
        _check_fleet(fleet)
    _check_types(_types(instances), label)


def check_groups(groups: Sequence[Mapping[str, Any]], label: str) -> None:
    """Reject the instance groups that a cluster would have after a change."""
    _check_members(groups, "InstanceRole")
    _check_types([group["InstanceType"] for group in groups], label)


def check_fleets(fleets: Sequence[Mapping[str, Any]], label: str) -> None:
    """Reject the instance fleets that a cluster would have after a change."""
    _check_members(fleets, "InstanceFleetType")
    for fleet in fleets:
        if fleet["InstanceFleetType"] != "TASK" or _target(fleet):  # a TASK fleet may be emptied
            _check_fleet(fleet)
        _check_types(_types({"InstanceFleets": [fleet]}), label)


def _check_members(members: Sequence[Mapping[str, Any]], field: str) -> None:
    """Reject groups or fleets with missing or repeated roles, or groups with a wrong size.

    The names of the roles are checked before, against the service model.
    """
    kind = "group" if field == "InstanceRole" else "fleet"
    roles = [member.get(field) for member in members]
    if members and roles.count("MASTER") != 1:
        raise ValidationError(f"The cluster must have exactly one MASTER {kind}, found {roles.count('MASTER')}.")
    if roles.count("CORE") > 1:
        raise ValidationError(f"The cluster can have at most one CORE {kind}, found {roles.count('CORE')}.")
    if "TASK" in roles and "CORE" not in roles:
        raise ValidationError(f"A cluster with a TASK {kind} must have a CORE {kind}.")
    if kind == "fleet" and roles.count("TASK") > 1:
        raise ValidationError(f"The cluster can have at most one TASK fleet, found {roles.count('TASK')}.")
    for member in members:
        if kind == "group":
            _check_size(member["InstanceRole"], member.get("InstanceCount", 0))


def _check_size(role: str, count: int) -> None:
    least = 0 if role == "TASK" else 1
    if count < least:
        raise ValidationError(f"InstanceCount of the {role} group must be at least {least}.")
    if role == "MASTER" and count not in MASTERS:
        raise ValidationError("Master instance group must have exactly 3 instances for HA clusters.")


def _target(fleet: Mapping[str, Any]) -> int:
    return int(fleet.get("TargetOnDemandCapacity", 0)) + int(fleet.get("TargetSpotCapacity", 0))


def _check_fleet(fleet: Mapping[str, Any]) -> None:
    kind, launch = fleet["InstanceFleetType"], fleet.get("LaunchSpecifications") or {}
    target = _target(fleet)
    if target < 1:
        raise ValidationError(f"The {kind} fleet must have a target capacity of at least 1.")
    if kind == "MASTER" and target not in MASTERS:
        raise ValidationError(f"The MASTER fleet must have a target capacity of 1 or 3, not {target}.")
    configs = fleet.get("InstanceTypeConfigs") or []
    names = [config.get("InstanceType") for config in configs]
    specifications = [value for value in launch.values() if value]
    limit = MAX_TYPES_WITH_STRATEGY if any("AllocationStrategy" in item for item in specifications) else MAX_TYPES
    if not 1 <= len(names) <= limit:
        raise ValidationError(f"The {kind} fleet must have 1 to {limit} instance types, not {len(names)}.")
    if len(set(names)) < len(names):
        raise ValidationError(f"The {kind} fleet names an instance type twice.")
    for config in configs:
        weight = config.get("WeightedCapacity", 1)
        if weight < 1 or (kind == "MASTER" and weight != 1):
            raise ValidationError(
                f"WeightedCapacity {weight} of {config['InstanceType']} in the {kind} fleet is invalid."
            )
        for device in (config.get("EbsConfiguration") or {}).get("EbsBlockDeviceConfigs") or []:
            _check_volume(device["VolumeSpecification"])
    if launch.get("SpotSpecification"):
        _check_spot(launch["SpotSpecification"])


def _check_volume(volume: Mapping[str, Any]) -> None:
    low, high = VOLUME_GIB
    if not low <= volume["SizeInGB"] <= high:
        raise ValidationError(
            f"VolumeSpecification.SizeInGB must be between {low} and {high}, not {volume['SizeInGB']}."
        )
    if volume["VolumeType"] not in VOLUME_TYPES:
        raise ValidationError(
            f"VolumeSpecification.VolumeType must be one of {', '.join(VOLUME_TYPES)}, not {volume['VolumeType']}."
        )


def _check_spot(specification: Mapping[str, Any]) -> None:
    low, high = SPOT_TIMEOUT_MINUTES
    minutes = specification["TimeoutDurationMinutes"]
    if not low <= minutes <= high:
        raise ValidationError(f"TimeoutDurationMinutes must be between {low} and {high}, not {minutes}.")


def check_tags(tags: Sequence[Mapping[str, str]], present: Mapping[str, str] | None = None) -> None:
    """Reject the tags of a new cluster, or those that a request adds to the present ones."""
    for tag in tags:
        key, value = tag["Key"], tag.get("Value", "")
        if not (1 <= len(key) <= 128 and len(value) <= 256 and TAG_TEXT.fullmatch(key) and TAG_TEXT.fullmatch(value)):
            raise ValidationError(f"The tag {key}={value} is invalid.")
        if key.lower().startswith("aws:") or value.lower().startswith("aws:"):
            raise ValidationError(f"The tag {key}={value} begins with the reserved prefix aws:.")
    keys = {tag["Key"] for tag in tags}
    if len(keys | set(present or {})) > MAX_TAGS or len(keys) < len(tags):
        raise ValidationError(f"A cluster has at most {MAX_TAGS} tags, each key once.")


def _types(instances: Mapping[str, Any]) -> list[str]:
    """Return all instance types in a request."""
    named = [instances.get("MasterInstanceType"), instances.get("SlaveInstanceType")]
    named += [group.get("InstanceType") for group in instances.get("InstanceGroups") or []]
    for fleet in instances.get("InstanceFleets") or []:
        named += [config.get("InstanceType") for config in fleet.get("InstanceTypeConfigs") or []]
    return [name for name in named if name]


def _check_types(types: Sequence[str], label: str) -> None:
    offered = _instance_types(label)
    for name in types:
        if offered and name not in offered:
            raise ValidationError(f"Instance type '{name}' is not supported by {label}.")


def _check_log_uri(uri: str | None) -> None:
    if uri and not uri.startswith(("file:///", "s3://", "s3n://")):
        raise ValidationError(f"LogUri '{uri}' is not valid: expected s3://bucket/prefix or file:///absolute/folder.")


def check_concurrency(level: int) -> None:
    """Reject a StepConcurrencyLevel outside EMR's limits."""
    if not 1 <= level <= MAX_CONCURRENT_STEPS:
        raise ValidationError(f"StepConcurrencyLevel must be between 1 and {MAX_CONCURRENT_STEPS}, not {level}.")


def check_steps(steps: Sequence[Mapping[str, Any]], level: int, active: int) -> None:
    """Reject steps as EMR would.

    Parameters
    ----------
    steps : sequence of StepConfig
        The steps to add.
    level : int
        The cluster's StepConcurrencyLevel.
    active : int
        Number of steps of the cluster that are pending or running.
    """
    if active + len(steps) > MAX_ACTIVE_STEPS:
        raise ValidationError(
            "Maximum number of active steps(State = 'Running', 'Pending' or 'Cancel_Pending') for cluster exceeded."
        )
    for step in steps:
        action = step.get("ActionOnFailure")
        if level > 1 and action not in (None, "CONTINUE"):
            raise ValidationError(
                f"ActionOnFailure {action} is not allowed when StepConcurrencyLevel is greater than 1: use CONTINUE."
            )
        check_step_strings(step)
        jar = (step.get("HadoopJarStep") or {}).get("Jar")
        if not jar:
            raise ValidationError(f"The step '{step.get('Name')}' has no HadoopJarStep.Jar.")
        name, args = jar.rpartition("/")[2], step["HadoopJarStep"].get("Args") or []
        if name != COMMAND_RUNNER and not (name == SCRIPT_RUNNER and is_debugging_setup(args)):
            raise ValidationError(
                f"The step '{step.get('Name')}' has the jar '{jar}': this endpoint runs {COMMAND_RUNNER} only. "
                f"It accepts {SCRIPT_RUNNER} for «Setup Hadoop Debugging» only, which does nothing here."
            )


def check_auto_termination(policy: Mapping[str, Any] | None) -> None:
    """Reject an AutoTerminationPolicy whose IdleTimeout (seconds) is outside EMR's limits."""
    low, high = IDLE_TIMEOUT_SECONDS
    timeout = (policy or {}).get("IdleTimeout")
    if timeout is None or not low <= timeout <= high:
        raise ValidationError(
            f"AutoTerminationPolicy.IdleTimeout must be between {low} and {high} seconds, not {timeout}."
        )


def check_managed_scaling(policy: Mapping[str, Any] | None, *, fleets: bool) -> None:
    """Reject a ManagedScalingPolicy with inconsistent limits or with the unit of the other kind of cluster."""
    limits = (policy or {}).get("ComputeLimits")
    if not limits:
        raise ValidationError("ManagedScalingPolicy.ComputeLimits is required.")
    low, high = limits.get("MinimumCapacityUnits", 0), limits.get("MaximumCapacityUnits", 0)
    if not 1 <= low <= high:
        raise ValidationError(f"ComputeLimits must satisfy 1 <= minimum <= maximum, not {low} and {high}.")
    if fleets != (limits.get("UnitType") == "InstanceFleetUnits"):
        kind = "instance fleets" if fleets else "instance groups"
        raise ValidationError(f"UnitType {limits.get('UnitType')} cannot be used on a cluster with {kind}.")


def has_three_masters(instances: Mapping[str, Any]) -> bool:
    """Return whether the Instances of a request have three primary nodes."""
    groups = [group for group in instances.get("InstanceGroups") or [] if group["InstanceRole"] == "MASTER"]
    fleets = [fleet for fleet in instances.get("InstanceFleets") or [] if fleet["InstanceFleetType"] == "MASTER"]
    return any(group["InstanceCount"] > 1 for group in groups) or any(_target(fleet) > 1 for fleet in fleets)
