"""The golden files: the requests as they were when a person last looked at them.

After a change that is meant, write them again and read the diff::

    python -m tests.include.golden.regenerate
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from include.cluster import run_job_flow_request
from include.settings import RunParams, Settings
from include.steps import spark_step
from spark_jobs.args import FeaturizeArgs, PcaArgs

FOLDER = Path(__file__).resolve().parent

SLUG = "20261122T120000Z-0123abcd"
CODE = "s3://bucket/code/0123456789abcdef"
RUN = f"s3://bucket/runs/{SLUG}"
PREVIOUS = "s3://bucket/runs/20261121T120000Z-89abcdef"
CUSTOM = RunParams(
    release_label="emr-7.14.0",
    master_instance_type="r8g.4xlarge",
    core_instance_types=("c8gd.4xlarge",),
    core_instance_count=7,
    idle_timeout_minutes=1,
)


def cluster_requests() -> dict[str, dict[str, Any]]:
    """Return the RunJobFlow requests by the name of their file."""
    in_vpc = Settings(service_role="ours", job_flow_role="nodes", subnet_ids=("subnet-1", "subnet-2"))
    common = {"slug": SLUG, "code": CODE, "log_uri": "s3://bucket/logs/"}
    return {
        "cluster_default.json": run_job_flow_request(settings=Settings(), params=RunParams(), **common),
        "cluster_custom.json": run_job_flow_request(settings=in_vpc, params=CUSTOM, **common),
    }


def steps() -> dict[str, dict[str, Any]]:
    """Return the steps by the name of their file."""
    featurize = FeaturizeArgs(images="s3://bucket/data", run=RUN, model="s3://bucket/models/feedface")
    pca = PcaArgs(run=RUN, variance_target=None, n_components=40, previous_model=f"{PREVIOUS}/pca/model.npz")
    return {
        "step_featurize.json": spark_step(featurize, slug=SLUG, code=CODE, time_limit_minutes=180),
        "step_pca.json": spark_step(pca, slug=SLUG, code=CODE, time_limit_minutes=5),
    }


def read_golden(name: str) -> dict[str, Any]:
    """Return what a golden file holds."""
    record: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return record


if __name__ == "__main__":
    for name, record in (cluster_requests() | steps()).items():
        (FOLDER / name).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
