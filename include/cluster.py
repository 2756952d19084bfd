"""The whole RunJobFlow request, from settings and parameters. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from include.bundle import BOOTSTRAP_FILE, REQUIREMENTS_FILE
from include.settings import RunParams, Settings

PYTHON = "/opt/fruit-features/bin/python"
"""The nodes' Python: an environment that the bootstrap action makes."""

PROJECT_TAG = "fruit-features"


def cluster_name(slug: str) -> str:
    """Return the cluster's name; it carries the run's slug since ListClusters returns no tags."""
    return f"fruit-features {slug}"


def run_job_flow_request(
    *, slug: str, settings: Settings, params: RunParams, code: str, log_uri: str
) -> dict[str, Any]:
    """Return the arguments of EMR's RunJobFlow.

    Parameters
    ----------
    slug : str
        The run's slug: in the cluster's name and in a tag.
    settings : Settings
        Roles and subnets.
    params : RunParams
        Release, instance types and counts, idle time-out.
    code : str
        URI of the code bundle's folder, where the bootstrap action is.
    log_uri : str
        URI of the folder for the cluster's logs.
    """
    return {
        "Name": cluster_name(slug),
        "ReleaseLabel": params.release_label,
        "Applications": [{"Name": "Spark"}],
        "LogUri": log_uri,
        "ServiceRole": settings.service_role,
        "JobFlowRole": settings.job_flow_role,
        "VisibleToAllUsers": True,
        "Instances": _instances(settings, params),
        "BootstrapActions": [
            {
                "Name": "install Python packages",
                "ScriptBootstrapAction": {
                    "Path": f"{code}/{BOOTSTRAP_FILE}",
                    "Args": [f"{code}/{REQUIREMENTS_FILE}"],
                },
            }
        ],
        "Configurations": _configurations(),
        # The backstop when neither the teardown nor a person ends the cluster.
        "AutoTerminationPolicy": {"IdleTimeout": params.idle_timeout_minutes * 60},
        "StepConcurrencyLevel": 1,
        "Tags": [
            {"Key": "project", "Value": PROJECT_TAG},
            {"Key": f"{PROJECT_TAG}:run", "Value": slug},
            # The policy of EMR_DefaultRole_V2 allows clusters with this tag only.
            {"Key": "for-use-with-amazon-emr-managed-policies", "Value": "true"},
        ],
    }


def _instances(settings: Settings, params: RunParams) -> dict[str, Any]:
    instances: dict[str, Any] = {
        "KeepJobFlowAliveWhenNoSteps": True,  # the cluster is made without steps
        "TerminationProtected": False,
        "InstanceFleets": [
            _fleet("MASTER", [params.master_instance_type], 1),
            _fleet("CORE", params.core_instance_types, params.core_instance_count),
        ],
    }
    if settings.subnet_ids:
        instances["Ec2SubnetIds"] = list(settings.subnet_ids)
    return instances


def _fleet(kind: str, instance_types: Sequence[str], count: int) -> dict[str, Any]:
    return {
        "Name": kind.lower(),
        "InstanceFleetType": kind,
        "TargetOnDemandCapacity": count,
        "InstanceTypeConfigs": [{"InstanceType": name, "WeightedCapacity": 1} for name in instance_types],
        "LaunchSpecifications": {"OnDemandSpecification": {"AllocationStrategy": "lowest-price"}},
    }


def _configurations() -> list[dict[str, Any]]:
    utf8 = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}  # names of files and labels hold accents
    return [
        {
            "Classification": "spark-env",
            "Configurations": [{"Classification": "export", "Properties": {"PYSPARK_PYTHON": PYTHON, **utf8}}],
        },
        {
            "Classification": "spark-defaults",
            "Properties": {
                # Two executors on a node of 8 cores and 16 GB; the Python workers live in the overhead.
                "spark.executor.cores": "4",
                "spark.executor.memory": "2g",
                "spark.executor.memoryOverhead": "3g",
                "spark.pyspark.python": PYTHON,
                **{f"spark.executorEnv.{name}": value for name, value in utf8.items()},
            },
        },
    ]
