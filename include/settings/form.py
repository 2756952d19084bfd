"""The Params of the DAG: what the trigger form asks, with types, bounds, defaults and help."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from airflow.sdk import Param

from include.settings.deployment import RunParams
from spark_jobs.args import (
    APPLY_ORIENTATION,
    CENTRED_SCORES,
    FEATURE_DIMENSIONS,
    IGNORE_ORIENTATION,
    MAX_SAMPLE_IMAGES,
    PROJECTED_SCORES,
    WHITENED_SCORES,
)

DAG_ID = "fruit_features"
"""The DAG whose runs these are."""

MAX_STEP_MINUTES = 720

_INSTANCE_TYPE = r"^[a-z0-9]+(-[a-z0-9]+)?\.[0-9]*[a-z]+$"
_RELEASE_LABEL = r"^emr-(spark-)?[0-9]+\.[0-9]+\.[0-9]+$"
_FOLDER = r"^(?!.*(^|/)\.{1,2}(/|$))[^/:\x00-\x1f][^:\x00-\x1f]*$"

_SCHEMAS: dict[str, dict[str, Any]] = {
    "data_prefix": {
        "type": "string",
        "title": "Folder of images",
        "description": "Folder of the lake to list, at any depth. An image's label is the name of the folder it is in.",
        "pattern": _FOLDER,
        "section": "Images",
    },
    "image_pattern": {
        "type": "string",
        "title": "File names",
        "description": "Patterns of file names, separated by commas; capitals do not matter.",
        "minLength": 1,
        "section": "Images",
    },
    "max_reject_ratio": {
        "type": "number",
        "title": "Largest share of rejects",
        "description": "The run fails when more than this share of the files cannot be read as images (0.05 is 5 %).",
        "minimum": 0,
        "maximum": 1,
        "section": "Images",
    },
    "exif_orientation": {
        "type": "string",
        "enum": [IGNORE_ORIENTATION, APPLY_ORIENTATION],
        "title": "EXIF orientation",
        "description": "Take the pixels as they are stored (ignore), or turned as the camera was held (apply).",
        "section": "Images",
    },
    "images_per_task": {
        "type": "integer",
        "title": "Images per Spark task",
        "description": "A full task, of some two minutes; large files make it fewer, small runs get smaller tasks.",
        "minimum": 1,
        "maximum": 100_000,
        "section": "Images",
    },
    "variance_target": {
        "type": ["number", "null"],
        "title": "Share of the variance to explain",
        "description": "The fewest components that reach this are kept (0.80 is 80 %); empty for a fixed number.",
        "exclusiveMinimum": 0,
        "exclusiveMaximum": 1,
        "section": "Principal components",
    },
    "n_components": {
        "type": ["integer", "null"],
        "title": "Number of components",
        "description": "So many components are kept; with a share of the variance, at most so many.",
        "minimum": 1,
        "maximum": FEATURE_DIMENSIONS,
        "section": "Principal components",
    },
    "scores": {
        "type": "string",
        "enum": [PROJECTED_SCORES, CENTRED_SCORES, WHITENED_SCORES],
        "title": "Scores",
        "description": "As they are (projected), with the mean taken off (centred), or also of variance 1 (whitened).",
        "section": "Principal components",
    },
    "sample_images": {
        "type": "integer",
        "title": "Sample for the certificate of quality",
        "description": "The report tells, on so many images, what the components have lost; 0 to leave that out.",
        "minimum": 0,
        "maximum": MAX_SAMPLE_IMAGES,
        "section": "Principal components",
    },
    "release_label": {
        "type": "string",
        "title": "EMR release",
        "description": "Release label of the cluster, such as emr-spark-8.1.0 or emr-7.14.0.",
        "pattern": _RELEASE_LABEL,
        "section": "Cluster",
    },
    "master_instance_type": {
        "type": "string",
        "title": "Primary node",
        "description": "EC2 type of the primary node; Spark's driver runs on it.",
        "pattern": _INSTANCE_TYPE,
        "section": "Cluster",
    },
    "core_instance_types": {
        "type": "array",
        "items": {"type": "string", "pattern": _INSTANCE_TYPE},
        "title": "Core and task nodes: types",
        "description": "EC2 types of the nodes that do the work, one a line: EMR takes the cheapest that it can get.",
        "minItems": 1,
        "maxItems": 30,
        "uniqueItems": True,
        "section": "Cluster",
    },
    "core_instance_count": {
        "type": "integer",
        "title": "Core nodes: count",
        "description": "On-demand nodes, there from start to end; of types of several sizes, the smallest counts 1.",
        "minimum": 1,
        "maximum": 50,
        "section": "Cluster",
    },
    "task_instance_count": {
        "type": "integer",
        "title": "Task nodes: count",
        "description": "Spot nodes beside them, on-demand ones where there are none; EMR ends those that idle.",
        "minimum": 0,
        "maximum": 200,
        "section": "Cluster",
    },
    "ebs_gib": {
        "type": "integer",
        "title": "Disk of a node (GiB)",
        "description": "EBS volume of each node for YARN, HDFS and logs; the jobs themselves keep nothing there.",
        "minimum": 10,
        "maximum": 1024,
        "section": "Cluster",
    },
    "step_time_limit_minutes": {
        "type": "integer",
        "title": "Time limit of a step (minutes)",
        "description": "A step that takes longer is ended, and the run fails.",
        "minimum": 1,
        "maximum": MAX_STEP_MINUTES,
        "section": "Limits",
    },
    "idle_timeout_minutes": {
        "type": "integer",
        "title": "Idle time-out of the cluster (minutes)",
        "description": "EMR ends a cluster that has had nothing to do for so long, should Airflow not do so.",
        "minimum": 1,
        "maximum": 1440,
        "section": "Limits",
    },
    "max_cost_eur": {
        "type": ["number", "null"],
        "title": "Cap of the cost (euros)",
        "description": "A run whose forecast is above this, or not known, does not start; empty for no cap.",
        "exclusiveMinimum": 0,
        "maximum": 100_000,
        "section": "Limits",
    },
}


def run_params(architecture: str = "arm64", max_cost_eur: float | None = None) -> dict[str, Param]:
    """Return the DAG's Params, in the order of the form.

    Parameters
    ----------
    architecture : str
        Of the nodes: the defaults are those of :meth:`RunParams.for_architecture`.
    max_cost_eur : float or None
        The default of the parameter of that name.
    """
    defaults = asdict(RunParams.for_architecture(architecture)) | {"max_cost_eur": max_cost_eur}
    return {
        name: Param(list(default) if isinstance(default, tuple) else default, **_SCHEMAS[name])
        for name, default in sorted(defaults.items(), key=lambda item: list(_SCHEMAS).index(item[0]))
    }
