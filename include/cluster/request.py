"""The RunJobFlow request, built from settings and parameters. Pure.

docs/cluster.md explains its content. :mod:`include.cluster.rules` reports what EMR would reject.
"""

from __future__ import annotations

from collections.abc import Sequence

from include.artifacts.bundle import BOOTSTRAP_FILE, REQUIREMENTS_FILE
from include.cluster.instance_types import InstanceType, instance_types
from include.cluster.sizing import AM_HEAP_MIB, AM_OVERHEAD_MIB, Size, find_capacity, unit_vcpus, weight
from include.cluster.tags import PROJECT, run_tags
from include.records import ClusterRequest, JsonObject
from include.settings.deployment import Settings
from include.settings.parameters import RunParams

PYTHON = "/opt/fruit-features/bin/python"
"""Python of the nodes, in the virtual environment that the bootstrap action creates."""

SPOT_TIMEOUT_MINUTES = 10
"""How long EMR waits for spot capacity at the first provisioning before it uses on-demand nodes (5 to 1440)."""

ROOT_VOLUME_GIB = 30
"""EMR's default is 15 (EMR Management Guide, "Customizing the Amazon EBS root device volume"). The jobs' packages need
0.5 GB."""


def cluster_name(slug: str) -> str:
    """Return the cluster's name. It contains the run's slug, since ListClusters does not return tags."""
    return f"{PROJECT} {slug}"


def run_job_flow_request(
    *,
    slug: str,
    run_id: str,
    lake: str,
    settings: Settings,
    params: RunParams,
    size: Size,
    code: str,
    wheels: str,
    log_uri: str,
) -> ClusterRequest:
    """Return the arguments of EMR's RunJobFlow.

    Parameters
    ----------
    slug : str
        The run's slug, for the name and a tag.
    run_id : str
        Airflow's run id, for a tag.
    lake : str
        The lake's root, for a tag.
    settings : Settings
        Region, roles, network, encryption and tags.
    params : RunParams
        Release, instance types, disks, idle timeout.
    size : Size
        The worker nodes; without any, the cluster consists of its primary node.
    code : str
        URI of the code bundle's folder, which contains the bootstrap action.
    wheels : str
        URI of the wheelhouse, from which the nodes install the jobs' packages.
    log_uri : str
        URI of the folder for the cluster's logs.

    Raises
    ------
    KeyError
        If an instance type is unknown.
    SizingError
        If a type is too small for an executor. :func:`include.cluster.rules.check_cluster` reports both in detail.
    """
    request: ClusterRequest = {
        "Name": cluster_name(slug),
        "ReleaseLabel": params.release_label,
        "Applications": [{"Name": "Spark"}],
        "LogUri": log_uri,
        "ServiceRole": settings.service_role,
        "JobFlowRole": settings.job_flow_role,
        "VisibleToAllUsers": True,
        "Instances": _instances(settings, params, size),
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
        "Configurations": _configurations(settings, params, size),
        # The fallback if neither the teardown nor a person terminates the cluster.
        "AutoTerminationPolicy": {"IdleTimeout": params.idle_timeout_minutes * 60},
        "StepConcurrencyLevel": 1,
        "Tags": [
            {"Key": key, "Value": value}
            for key, value in run_tags(slug=slug, run_id=run_id, lake=lake, settings=settings).items()
        ],
    }
    if size.task_nodes:
        request["ManagedScalingPolicy"] = _managed_scaling(size)
    if settings.security_configuration:
        request["SecurityConfiguration"] = settings.security_configuration
    if settings.kms_key:
        request["LogEncryptionKmsKeyId"] = settings.kms_key
    return request


def _instances(settings: Settings, params: RunParams, size: Size) -> JsonObject:
    workers = [instance_types()[name] for name in params.core_instance_types]
    master = [instance_types()[params.master_instance_type]]
    on_demand = {"OnDemandSpecification": {"AllocationStrategy": "lowest-price"}}
    fleets = [_fleet("MASTER", master, params, {"TargetOnDemandCapacity": 1, "LaunchSpecifications": on_demand})]
    if size.core_nodes:
        # On demand: core nodes store HDFS with the code that YARN distributes, which must not be lost.
        capacity = {"TargetOnDemandCapacity": size.core_nodes, "LaunchSpecifications": on_demand}
        fleets.append(_fleet("CORE", workers, params, capacity))
    if size.task_nodes:
        fleets.append(_fleet("TASK", workers, params, _spot(size.task_nodes)))
    instances: JsonObject = {
        "KeepJobFlowAliveWhenNoSteps": True,  # the cluster is created without steps
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


def _spot(count: int) -> JsonObject:
    return {
        "TargetSpotCapacity": count,
        "LaunchSpecifications": {
            "SpotSpecification": {
                "AllocationStrategy": "price-capacity-optimized",
                "TimeoutDurationMinutes": SPOT_TIMEOUT_MINUTES,
                "TimeoutAction": "SWITCH_TO_ON_DEMAND",
            },
            # Applies when EMR switches to on-demand nodes.
            "OnDemandSpecification": {"AllocationStrategy": "lowest-price"},
        },
    }


def _fleet(kind: str, nodes: Sequence[InstanceType], params: RunParams, capacity: JsonObject) -> JsonObject:
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


def _managed_scaling(size: Size) -> JsonObject:
    """Return the limits within which EMR adds and removes task nodes; the number of core nodes is constant."""
    return {
        "ComputeLimits": {
            "UnitType": "InstanceFleetUnits",
            "MinimumCapacityUnits": size.core_nodes,
            "MaximumCapacityUnits": size.worker_nodes,
            # All capacity above the core nodes is spot, in task nodes.
            "MaximumOnDemandCapacityUnits": size.core_nodes,
            "MaximumCoreCapacityUnits": size.core_nodes,
        }
    }


def _configurations(settings: Settings, params: RunParams, size: Size) -> list[JsonObject]:
    environment = {
        "LC_ALL": "C.UTF-8",  # file names and labels contain accents
        "PYTHONUTF8": "1",
        # Without a region, S3 clients call endpoints that a node without internet cannot reach.
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
                **_executors(params, size),
                "spark.pyspark.python": PYTHON,
                **{f"spark.executorEnv.{name}": value for name, value in environment.items()},
            },
        },
        {
            # Our jobs only fetch their code through Hadoop. The committer matters for other steps: it renames no files.
            "Classification": "core-site",
            "Properties": {
                "fs.s3a.endpoint.region": settings.region,
                "fs.s3a.committer.name": "magic",
            },
        },
    ]


def _executors(params: RunParams, size: Size) -> dict[str, str]:
    workers = [instance_types()[name] for name in params.core_instance_types]
    capacity = find_capacity(size, instance_types()[params.master_instance_type], workers)
    executor = capacity.executor
    return {
        "spark.executor.cores": str(executor.cores),
        "spark.executor.memory": f"{executor.heap_mib}m",
        "spark.executor.memoryOverhead": f"{executor.overhead_mib}m",
        "spark.yarn.am.memory": f"{AM_HEAP_MIB}m",
        "spark.yarn.am.memoryOverhead": f"{AM_OVERHEAD_MIB}m",
        # By default, EMR gives executors the spare cores and memory of a node, but no more overhead for the Python
        # processes (EMR Best Practices Guides, Spark: "spark.yarn.heterogeneousExecutors.enabled").
        "spark.yarn.heterogeneousExecutors.enabled": "false",
        # The number of executors follows the number of task nodes.
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "1",
        "spark.dynamicAllocation.initialExecutors": str(capacity.executors),
        # YARN only counts memory: types with more memory per core would get more tasks than cores.
        "spark.dynamicAllocation.maxExecutors": str(capacity.executors),
        # The job plans its tasks for this many slots; it would count too few while executors are still starting.
        "spark.default.parallelism": str(capacity.vcpus),
    }
