"""The parameters of one run: defaults, limits, and the texts that the trigger form shows.

Parameters of a job take their default, range and choices from :mod:`spark_jobs.args`. Airflow checks the values against
the limits (:mod:`include.settings.form`) before a run starts, whether the UI, the API or the command line triggers it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from include.settings.deployment import Architecture, SettingsError
from spark_jobs.args import (
    FEATURE_DIMENSIONS,
    Check,
    FeaturizeArgs,
    JobArgs,
    OneOf,
    PcaArgs,
    Range,
    is_component_count_open,
)

MAX_STEP_MINUTES = 720
"""Upper limit of ``step_time_limit_minutes``."""

DEFAULT_INSTANCE_TYPES: dict[Architecture, tuple[str, tuple[str, ...]]] = {
    "arm64": ("m7g.xlarge", ("c7g.2xlarge", "c8g.2xlarge", "c6g.2xlarge")),
    "x86_64": ("m7i.xlarge", ("c7i.2xlarge", "c6i.2xlarge", "c5.2xlarge")),
}
"""Per architecture: the type of the primary node, and the types of the core and task nodes."""

_IMAGES = "Images"
_COMPONENTS = "Principal components"
_CLUSTER = "Cluster"
_LIMITS = "Limits"

_INSTANCE_TYPE = r"^[a-z0-9]+(-[a-z0-9]+)?\.[0-9]*[a-z]+$"
_RELEASE_LABEL = r"^emr-(spark-)?[0-9]+\.[0-9]+\.[0-9]+$"
_FOLDER = r"^(?!.*(^|/)\.{1,2}(/|$))[^/:\x00-\x1f][^:\x00-\x1f]*$"


def _parameter(section: str, title: str, description: str, default: Any, **schema: Any) -> Any:
    """Declare a parameter: its texts in the form, its default, and its limits as JSON schema."""
    return field(default=default, metadata={"title": title, "description": description, "section": section, **schema})


def _job_parameter(
    section: str, title: str, description: str, job: type[JobArgs], argument: str, **narrower: Any
) -> Any:
    """Declare a parameter that becomes a job's argument; ``narrower`` are limits of the form only."""
    item = next(item for item in fields(job) if item.name == argument)  # type: ignore[arg-type]
    return _parameter(section, title, description, item.default, **_schema(item.metadata["check"]), **narrower)


def _schema(check: Check) -> dict[str, Any]:
    """Return the JSON schema of a job's check."""
    if isinstance(check, OneOf):
        return {"enum": list(check.choices)}
    if isinstance(check, Range):
        low, high = ("exclusiveMinimum", "exclusiveMaximum") if check.exclusive else ("minimum", "maximum")
        return {low: check.minimum} | ({high: check.maximum} if check.maximum < math.inf else {})
    return {"minLength": 1}


@dataclass(frozen=True)
class RunParams:
    """The parameters of one run, in the order of the trigger form."""

    data_prefix: str = _parameter(
        _IMAGES,
        "Folder of images",
        "Folder of the lake that contains the images, at any depth. The label of an image is the name of its folder.",
        "data",
        pattern=_FOLDER,
    )
    image_pattern: str = _job_parameter(
        _IMAGES,
        "File names",
        "Glob patterns of file names, separated by commas, case-insensitive. all: every format that is read.",
        FeaturizeArgs,
        "pattern",
    )
    include_hidden: bool = _parameter(
        _IMAGES,
        "Include hidden files",
        "Include files and folders whose names begin with a dot, and the system folders of macOS, Windows, Linux and "
        "NAS boxes.",
        FeaturizeArgs.include_hidden,
    )
    full_run: bool = _parameter(
        _IMAGES,
        "Full run",
        "Compute the features of all images again, even if nothing has changed.",
        False,
    )
    max_reject_ratio: float = _job_parameter(
        _IMAGES,
        "Maximum share of rejects",
        "The run fails if more than this share of the files cannot be read as images (0.05 is 5 %).",
        FeaturizeArgs,
        "max_reject_ratio",
    )
    exif_orientation: str = _job_parameter(
        _IMAGES,
        "EXIF orientation",
        "ignore: use the pixels as stored. apply: rotate them as the EXIF tag says.",
        FeaturizeArgs,
        "exif_orientation",
    )
    images_per_task: int = _job_parameter(
        _IMAGES,
        "Images per Spark task",
        "Images in a full task, about two minutes of work. Tasks get fewer images if files are large or the run is "
        "small.",
        FeaturizeArgs,
        "images_per_task",
        maximum=100_000,
    )
    variance_target: float | None = _job_parameter(
        _COMPONENTS,
        "Share of the variance to explain",
        "Keep the fewest components that explain this share (0.80 is 80 %). Leave empty to keep a fixed number.",
        PcaArgs,
        "variance_target",
    )
    n_components: int | None = _job_parameter(
        _COMPONENTS,
        "Number of components",
        "Number of components to keep; an upper limit if a share of the variance is also set.",
        PcaArgs,
        "n_components",
        maximum=FEATURE_DIMENSIONS,
    )
    scores: str = _job_parameter(
        _COMPONENTS,
        "Scores",
        "projected: not centred. centred: mean subtracted. whitened: centred, with unit variance.",
        PcaArgs,
        "scores",
    )
    basis: str = _job_parameter(
        _COMPONENTS,
        "Basis",
        "refit: fit the components on all images in every run. keep: keep the published components, and the scores of "
        "unchanged images, until the photos have drifted too far from them.",
        PcaArgs,
        "basis",
    )
    sample_images: int = _job_parameter(
        _COMPONENTS,
        "Sample for the quality certificate",
        "Number of images on which the report measures what the components lose. 0 skips the certificate.",
        PcaArgs,
        "sample_images",
    )
    release_label: str = _parameter(
        _CLUSTER,
        "EMR release",
        "Release label of the cluster, such as emr-spark-8.1.0 or emr-7.14.0.",
        "emr-spark-8.1.0",
        pattern=_RELEASE_LABEL,
    )
    master_instance_type: str = _parameter(
        _CLUSTER,
        "Primary node: type",
        "EC2 instance type of the primary node, which runs the Spark driver, and on a small day the tasks too.",
        DEFAULT_INSTANCE_TYPES["arm64"][0],
        pattern=_INSTANCE_TYPE,
    )
    core_instance_types: tuple[str, ...] = _parameter(
        _CLUSTER,
        "Core and task nodes: types",
        "EC2 instance types of the worker nodes, one per line. EMR chooses among those that are available: the "
        "cheapest for core nodes.",
        DEFAULT_INSTANCE_TYPES["arm64"][1],
        items={"type": "string", "pattern": _INSTANCE_TYPE},
        minItems=1,
        maxItems=30,  # of a fleet with an allocation strategy (EMR API Reference, InstanceTypeConfig)
        uniqueItems=True,
    )
    deadline_minutes: int = _parameter(
        _CLUSTER,
        "Deadline (minutes)",
        "The cluster gets the fewest worker nodes with which it is expected to start, compute and stop within this "
        "time.",
        60,
        minimum=1,
        maximum=1440,
    )
    min_worker_nodes: int = _parameter(
        _CLUSTER,
        "Worker nodes: minimum",
        "0: on a small day the primary node does the work alone. The same number as the maximum gives a cluster of "
        "fixed size. With types of several sizes, the smallest counts as 1.",
        0,
        minimum=0,
        maximum=200,
    )
    max_worker_nodes: int = _parameter(
        _CLUSTER,
        "Worker nodes: maximum",
        "A plan never has more worker nodes, even if it misses the deadline.",
        10,
        minimum=0,
        maximum=200,
    )
    max_core_nodes: int = _parameter(
        _CLUSTER,
        "Core nodes: maximum",
        "So many worker nodes are on-demand core nodes; all others are spot task nodes, or on-demand ones if no spot "
        "capacity is available.",
        2,
        minimum=1,
        maximum=200,
    )
    ebs_gib: int = _parameter(
        _CLUSTER,
        "Disk per node (GiB)",
        "Size of each node's EBS volume for YARN, HDFS and logs. The jobs do not store data on it.",
        32,
        minimum=10,
        maximum=1024,  # both: SizeInGB of an EBS-optimized volume (EMR API Reference, VolumeSpecification)
    )
    step_time_limit_minutes: int = _parameter(
        _LIMITS,
        "Time limit of a step (minutes)",
        "A step that takes longer is stopped, and the run fails.",
        180,
        minimum=1,
        maximum=MAX_STEP_MINUTES,
    )
    idle_timeout_minutes: int = _parameter(
        _LIMITS,
        "Idle timeout of the cluster (minutes)",
        "EMR terminates a cluster that has been idle for this long, if Airflow has not done so.",
        15,
        minimum=1,  # EMR accepts 1 to 10,080 (EMR API Reference, AutoTerminationPolicy)
        maximum=1440,
    )
    max_cost_eur: float | None = _parameter(
        _LIMITS,
        "Cost limit (euros)",
        "A run does not start if its forecast is higher or unknown. Leave empty for no limit.",
        None,
        exclusiveMinimum=0,
        maximum=100_000,
    )

    @classmethod
    def for_architecture(cls, architecture: Architecture) -> RunParams:
        """Return the default parameters for nodes of an architecture."""
        master, core = DEFAULT_INSTANCE_TYPES[architecture]
        return cls(master_instance_type=master, core_instance_types=core)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> RunParams:
        """Validate a run's Params, whose types and limits Airflow has checked against the form's JSON schemas.

        Raises
        ------
        SettingsError
            If a parameter is missing or unknown, if neither ``variance_target`` nor ``n_components`` is set, or if the
            minimum of worker nodes is above their maximum.
        """
        known = {item.name: str(item.type) for item in fields(cls)}
        problems = [f"the parameter {name!r} is missing" for name in sorted(set(known) - set(params))]
        problems += [f"{name!r} is not a parameter of this DAG" for name in sorted(set(params) - set(known))]
        if not problems and is_component_count_open(params["variance_target"], params["n_components"]):
            problems = ["variance_target and n_components are both empty; expected one of them, or both"]
        if not problems and params["min_worker_nodes"] > params["max_worker_nodes"]:
            low, high = params["min_worker_nodes"], params["max_worker_nodes"]
            problems = [f"min_worker_nodes={low}: expected at most max_worker_nodes={high}"]
        if problems:
            raise SettingsError(problems)
        # JSON schema accepts 40.0 as an integer; ``--n-components=40.0`` would fail on the cluster.
        whole = {
            name: int(value) for name, value in params.items() if known[name].startswith("int") and value is not None
        }
        return cls.from_record({**params, **whole})

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> RunParams:
        """Return the validated parameters that ``open_run`` has passed on as a record."""
        return cls(**{**record, "core_instance_types": tuple(record["core_instance_types"])})
