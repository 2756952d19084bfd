"""Every cell of the fault matrix: the run ends as expected, no cluster is live, and nothing published is lost."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import boto3
import httpx
import pandas as pd
import pytest

from include.aws.retries import RetryPolicy
from include.emr.client import Emr
from include.emr.reaper import Reaper, reap
from tests.end_to_end.conftest import LIVE, Bench, snapshot
from tests.end_to_end.fault_matrix import CELLS, Cell

pytestmark = [pytest.mark.slow, pytest.mark.matrix, pytest.mark.timeout(900)]

PICTURES = 25
RERUN_DATE = "2026-11-21T00:00:00+00:00"
"""Date of a run with two rounds."""


def set_in_phase(cell: Cell) -> Callable[[Path], None] | None:
    """Return a function that sets the scenario of a cell when the run reaches its phase."""
    if cell.phase is None:
        return None

    def set_scenario(state_dir: Path) -> None:
        url = json.loads((state_dir / "endpoint.json").read_text())["url"]
        emr = boto3.client("emr", region_name="eu-west-3", endpoint_url=url)
        while not reached(emr, cell):
            time.sleep(0.1)
        httpx.put(f"{url}/local-emr/faults", json=cell.scenario, trust_env=False).raise_for_status()

    return set_scenario


def reached(emr, cell: Cell) -> bool:
    clusters = emr.list_clusters()["Clusters"]
    if cell.phase == "create":
        return True
    if not clusters:
        return False
    states = {
        step["Name"].split()[0]: step["Status"]["State"]
        for step in emr.list_steps(ClusterId=clusters[0]["Id"])["Steps"]
    }
    if cell.phase == "teardown":
        return states.get("pca") == "COMPLETED"
    return states.get(cell.phase) == "RUNNING"


def check_reaper(lake: Path, url: str) -> None:
    """The reaper reports the protected cluster of the run, and terminates it once its protection is removed."""
    client = boto3.client("emr", region_name="eu-west-3", endpoint_url=url)
    [cluster] = client.list_clusters(ClusterStates=LIVE)["Clusters"]
    assert client.describe_cluster(ClusterId=cluster["Id"])["Cluster"]["TerminationProtected"]
    reaper = Reaper(f"file://{lake}", datetime.now(UTC), timedelta(0), is_live_run=lambda run_id: False)
    emr = Emr(client, RetryPolicy(20, 0.2))
    refused = reap(emr, reaper)
    assert refused.terminated == {}
    assert "termination protected" in refused.failures[cluster["Id"]]
    client.set_termination_protection(JobFlowIds=[cluster["Id"]], TerminationProtected=False)
    assert list(reap(emr, reaper).terminated) == [cluster["Id"]]


def multiply(data: Path, copies: int) -> None:
    for picture in sorted(data.glob("*/*")):
        for number in range(1, copies):
            shutil.copy(picture, picture.with_stem(f"{picture.stem}_{number}"))


@pytest.mark.parametrize(
    "cell",
    [pytest.param(cell, id=cell.name, marks=[] if cell.subset else [pytest.mark.soak]) for cell in CELLS],
)
def test_fault(bench: Bench, published_copy: Path, tmp_path: Path, cell: Cell, record_property) -> None:
    record_property("fault", cell.fault)
    record_property("when", cell.when)
    multiply(published_copy / "data", cell.copies)
    before = snapshot(published_copy)
    if cell.earlier_round is not None:
        first = bench.run(
            published_copy, tmp_path / "run", faults=cell.earlier_round, rerun_of=RERUN_DATE, settle_seconds=0
        )
        assert len(first.live_clusters) == 1, "the earlier round leaves its cluster"
        (tmp_path / "run" / "airflow.log").unlink()
    outcome = bench.run(
        published_copy,
        tmp_path / "run",
        faults={} if cell.phase else cell.scenario,
        meanwhile=set_in_phase(cell),
        afterwards=partial(check_reaper, published_copy) if cell.reaped else None,
        arguments=cell.arguments,
        conf=cell.conf,
        run_seconds=600,
        rerun_of=RERUN_DATE if cell.earlier_round is not None else None,
    )
    kind = re.search(r"Why it failed: ([A-Z ]+)", outcome.log)
    record_property("ended", outcome.state.state)
    record_property("diagnosis", kind.group(1).strip() if kind else "")
    tail = outcome.log[-6000:]
    assert outcome.state.state == cell.ends, tail
    assert outcome.live_clusters == [], "a cluster leaked"
    assert len(outcome.clusters) == 1, "the cluster was duplicated"
    missing = [text for text in cell.logged if text not in outcome.log]
    assert not missing, (missing, tail)
    assert "cleared by itself" not in outcome.log, "no task is cleared by itself"
    if not cell.published:
        assert snapshot(published_copy) == before
        assert len(list(published_copy.glob("manifests/*"))) == 1, "only the previous run has a manifest"
    images = PICTURES * (cell.copies if cell.published else 1)
    assert len(pd.read_parquet(published_copy / "results")) == images
