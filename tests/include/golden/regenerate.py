"""The golden files: the requests as they were last reviewed.

After an intended change, write them again and read the diff::

    python -m tests.include.golden.regenerate
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from include.cluster.request import run_job_flow_request
from include.cluster.sizing import Size
from include.cluster.steps import SPECULATION, spark_step
from include.records import ClusterRequest, JsonObject, StepRequest
from include.settings.deployment import Settings
from include.settings.parameters import RunParams
from spark_jobs.args import FeaturizeArgs, PcaArgs

FOLDER = Path(__file__).resolve().parent

SLUG = "20261122T120000Z-0123abcd"
RUN_ID = "manual__2026-11-22T12:00:00.123456+00:00"
LAKE = "s3://bucket"
CODE = f"{LAKE}/code/0123456789abcdef"
WHEELS = f"{LAKE}/wheels/fedcba9876543210"
RUN = f"{LAKE}/runs/{SLUG}"
PREVIOUS = f"{LAKE}/runs/20261121T120000Z-89abcdef"
IN_VPC = Settings(subnet_ids=("subnet-0123456789abcdef0", "subnet-1123456789abcdef0", "subnet-2123456789abcdef0"))
SECURED = replace(
    IN_VPC,
    architecture="x86_64",
    service_role="arn:aws:iam::123456789012:role/ours",
    job_flow_role="nodes",
    master_security_group="sg-0123456789abcdef0",
    core_security_group="sg-1123456789abcdef0",
    service_security_group="sg-2123456789abcdef0",
    security_configuration="fruit-features",
    kms_key="arn:aws:kms:eu-west-3:123456789012:key/01234567-89ab-cdef-0123-456789abcdef",
    tags=(("cost-centre", "r+d"), ("équipe", "données")),
)
CUSTOM = RunParams(
    release_label="emr-7.14.0",
    master_instance_type="r7i.4xlarge",
    core_instance_types=("c7i.4xlarge", "c6i.8xlarge", "m7i.4xlarge"),
    ebs_gib=100,
    idle_timeout_minutes=1,
)


def cluster_requests() -> dict[str, ClusterRequest]:
    """Return the RunJobFlow requests by the name of their file."""
    common = {"slug": SLUG, "run_id": RUN_ID, "lake": LAKE, "code": CODE, "wheels": WHEELS}
    x86 = RunParams.for_architecture("x86_64")
    logs = f"{LAKE}/logs/"
    return {
        "cluster_single_node.json": run_job_flow_request(
            settings=IN_VPC, params=RunParams(), size=Size(0, 0), log_uri=logs, **common
        ),
        "cluster_default.json": run_job_flow_request(
            settings=IN_VPC, params=RunParams(), size=Size(2, 2), log_uri=logs, **common
        ),
        "cluster_custom.json": run_job_flow_request(
            settings=SECURED, params=CUSTOM, size=Size(7, 20), log_uri="s3://logs/", **common
        ),
        "cluster_x86_64.json": run_job_flow_request(
            settings=replace(IN_VPC, architecture="x86_64"), params=x86, size=Size(2, 0), log_uri=logs, **common
        ),
    }


def steps() -> dict[str, StepRequest]:
    """Return the steps by the name of their file."""
    featurize = FeaturizeArgs(images="s3://bucket/data", run=RUN, model="s3://bucket/models/feedface")
    pca = PcaArgs(run=RUN, variance_target=None, n_components=40, previous_model=f"{PREVIOUS}/pca/model.npz")
    return {
        "step_featurize.json": spark_step(featurize, slug=SLUG, code=CODE, time_limit_minutes=180, conf=SPECULATION),
        "step_pca.json": spark_step(pca, slug=SLUG, code=CODE, time_limit_minutes=5),
    }


def read_golden(name: str) -> JsonObject:
    """Return the content of a golden file."""
    record: JsonObject = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return record


if __name__ == "__main__":
    for name, record in (cluster_requests() | steps()).items():
        (FOLDER / name).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
