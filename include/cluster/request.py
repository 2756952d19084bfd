"""The whole RunJobFlow request, from settings and parameters. Pure.

What is in it and why: docs/cluster.md. :mod:`include.cluster.rules` tells what EMR would reject.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from include.artifacts.bundle import BOOTSTRAP_FILE, REQUIREMENTS_FILE
from include.cluster.instance_types import InstanceType, instance_types
from include.cluster.sizing import AM_HEAP_MIB, AM_OVERHEAD_MIB, size_executor, unit_vcpus, weight
from include.cluster.tags import PROJECT, run_tags
from include.settings.deployment import Settings
from include.settings.parameters import RunParams

PYTHON = "/opt/fruit-features/bin/python"
"""The nodes' Python: an environment that the bootstrap action makes."""

SPOT_TIMEOUT_MINUTES = 10
"""How long the first provisioning looks for spot nodes before it takes on-demand ones; EMR takes 5 to 1440."""

ROOT_VOLUME_GIB = 30
"""EMR's own default is 15 (EMR Management Guide, "Customizing the Amazon EBS root device volume"); the packages of the
jobs take 0.5 GB of it."""


def cluster_name(slug: str) -> str:
    """Return the cluster's name; it carries the run's slug since ListClusters returns no tags."""
    return f"{PROJECT} {slug}"


def run_job_flow_request(
    *,
    slug: str,
    run_id: str,
    lake: str,
    settings: Settings,
    params: RunParams,
    code: str,
    wheels: str,
    log_uri: str,
) -> dict[str, Any]:
    """Return the arguments of EMR's RunJobFlow.

    Parameters
    ----------
    slug : str
        The run's slug: in the cluster's name and in a tag.
    run_id : str
        Airflow's run id, for a tag.
    lake : str
        The lake's root, for a tag.
    settings : Settings
        Region, roles, network, encryption and tags.
    params : RunParams
        Release, instance types and counts, disks, idle time-out.
    code : str
        URI of the code bundle's folder, where the bootstrap action is.
    wheels : str
        URI of the wheelhouse, from which nodes install the jobs' packages.
    log_uri : str
        URI of the folder for the cluster's logs.

    Raises
    ------
    KeyError
        When an instance type is none that is known.
    SizingError
        When a type is too small for an executor. :func:`include.cluster.rules.check_cluster` says both better.
    """
    request: dict[str, Any] = {
        "Name": cluster_name(slug),
        "ReleaseLabel": params.release_label,
        "Applications": [{"Name": "Spark"}],
        "LogUri": log_uri,
        "ServiceRole": settings.service_role,
        "JobFlowRole": settings.job_flow_role,
        "VisibleToAllUsers": True,
        "Instances": _instances(settings, params),
        "EbsRootVolumeSize": ROOT_VOLUME_GIB,
        "ScaleDownBehavior": "TERMINATE_AT_TASK_COMPLETION",
        "BootstrapActions": [
            {
                "Name": "install Python packages",
                "ScriptBootstrapAction": {
                    "Path": f"{code}/{BOOTSTRAP_FILE}",
                    "Args": [f"{code}/{REQUIREMENTS_FILE}", wheels, settings.region],
                },
            }
        ],
        "Configurations": _configurations(settings, params),
        # The backstop when neither the teardown nor a person ends the cluster.
        "AutoTerminationPolicy": {"IdleTimeout": params.idle_timeout_minutes * 60},
        "StepConcurrencyLevel": 1,
        "Tags": [
            {"Key": key, "Value": value}
            for key, value in run_tags(slug=slug, run_id=run_id, lake=lake, settings=settings).items()
        ],
    }
    if params.task_instance_count:
        request["ManagedScalingPolicy"] = _managed_scaling(params)
    if settings.security_configuration:
        request["SecurityConfiguration"] = settings.security_configuration
    if settings.kms_key:
        request["LogEncryptionKmsKeyId"] = settings.kms_key
    return request


def _instances(settings: Settings, params: RunParams) -> dict[str, Any]:
    workers = [instance_types()[name] for name in params.core_instance_types]
    master = [instance_types()[params.master_instance_type]]
    on_demand = {"OnDemandSpecification": {"AllocationStrategy": "lowest-price"}}
    fleets = [
        _fleet("MASTER", master, params, {"TargetOnDemandCapacity": 1, "LaunchSpecifications": on_demand}),
        # What must not be lost is on the core nodes: HDFS, and with it YARN's staging of the code.
        _fleet(
            "CORE",
            workers,
            params,
            {"TargetOnDemandCapacity": params.core_instance_count, "LaunchSpecifications": on_demand},
        ),
    ]
    if params.task_instance_count:
        fleets.append(_fleet("TASK", workers, params, _spot(params.task_instance_count)))
    instances: dict[str, Any] = {
        "KeepJobFlowAliveWhenNoSteps": True,  # the cluster is made without steps
        "TerminationProtected": False,
        "InstanceFleets": fleets,
    }
    if settings.subnet_ids:
        instances["Ec2SubnetIds"] = list(settings.subnet_ids)
    groups = {
        "EmrManagedMasterSecurityGroup": settings.master_security_group,
        "EmrManagedSlaveSecurityGroup": settings.core_security_group,
        "ServiceAccessSecurityGroup": settings.service_security_group,
    }
    return instances | {name: group for name, group in groups.items() if group}


def _spot(count: int) -> dict[str, Any]:
    return {
        "TargetSpotCapacity": count,
        "LaunchSpecifications": {
            "SpotSpecification": {
                "AllocationStrategy": "price-capacity-optimized",
                "TimeoutDurationMinutes": SPOT_TIMEOUT_MINUTES,
                "TimeoutAction": "SWITCH_TO_ON_DEMAND",
            },
            # How the fall-back chooses.
            "OnDemandSpecification": {"AllocationStrategy": "lowest-price"},
        },
    }


def _fleet(kind: str, nodes: Sequence[InstanceType], params: RunParams, capacity: dict[str, Any]) -> dict[str, Any]:
    unit = unit_vcpus(nodes)
    volume = {"VolumeSpecification": {"VolumeType": "gp3", "SizeInGB": params.ebs_gib}, "VolumesPerInstance": 1}
    return {
        "Name": kind.lower(),
        "InstanceFleetType": kind,
        **capacity,
        "InstanceTypeConfigs": [
            {
                "InstanceType": node.name,
                "WeightedCapacity": weight(node, unit),
                "EbsConfiguration": {"EbsBlockDeviceConfigs": [volume], "EbsOptimized": True},
            }
            for node in nodes
        ],
    }


def _managed_scaling(params: RunParams) -> dict[str, Any]:
    """Return limits within which EMR adds and removes task nodes; the core nodes stay as they are."""
    return {
        "ComputeLimits": {
            "UnitType": "InstanceFleetUnits",
            "MinimumCapacityUnits": params.core_instance_count,
            "MaximumCapacityUnits": params.core_instance_count + params.task_instance_count,
            # What comes above the core nodes is spot, and made of task nodes.
            "MaximumOnDemandCapacityUnits": params.core_instance_count,
            "MaximumCoreCapacityUnits": params.core_instance_count,
        }
    }


def _configurations(settings: Settings, params: RunParams) -> list[dict[str, Any]]:
    environment = {
        "LC_ALL": "C.UTF-8",  # names of files and labels hold accents
        "PYTHONUTF8": "1",
        # Clients of S3 that are not told the region ask one that a node without internet may not reach.
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
    }
    return [
        {
            "Classification": "spark-env",
            "Configurations": [{"Classification": "export", "Properties": {"PYSPARK_PYTHON": PYTHON, **environment}}],
        },
        {
            "Classification": "spark-defaults",
            "Properties": {
                **_executors(params),
                "spark.pyspark.python": PYTHON,
                **{f"spark.executorEnv.{name}": value for name, value in environment.items()},
            },
        },
        {
            # Only the code is fetched through Hadoop; what others write with Spark is never renamed.
            "Classification": "core-site",
            "Properties": {
                "fs.s3a.endpoint.region": settings.region,
                "fs.s3a.committer.name": "magic",
            },
        },
    ]


def _executors(params: RunParams) -> dict[str, str]:
    nodes = [instance_types()[name] for name in params.core_instance_types]
    executor = size_executor(nodes)
    units = params.core_instance_count + params.task_instance_count
    slots = units * (unit_vcpus(nodes) // executor.cores) * executor.cores
    return {
        "spark.executor.cores": str(executor.cores),
        "spark.executor.memory": f"{executor.heap_mib}m",
        "spark.executor.memoryOverhead": f"{executor.overhead_mib}m",
        "spark.yarn.am.memory": f"{AM_HEAP_MIB}m",
        "spark.yarn.am.memoryOverhead": f"{AM_OVERHEAD_MIB}m",
        # EMR's own default is to give executors more cores and memory where a node has some left, but no more overhead
        # to the Python processes (EMR Best Practices Guides, Spark: "spark.yarn.heterogeneousExecutors.enabled").
        "spark.yarn.heterogeneousExecutors.enabled": "false",
        # Executors come and go with the task nodes.
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "1",
        "spark.dynamicAllocation.initialExecutors": str(slots // executor.cores),
        # YARN counts memory only: types with more memory a core would get more tasks than cores.
        "spark.dynamicAllocation.maxExecutors": str(slots // executor.cores),
        # The job cuts its tasks for so many at a time; counted while executors still start, it would be too few.
        "spark.default.parallelism": str(slots),
    }
