"""Every cell of the fault matrix: the run ends as expected, no cluster is live, and nothing published is lost."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import httpx
import pandas as pd
import pytest

from tests.end_to_end.conftest import Bench, snapshot
from tests.end_to_end.fault_matrix import CELLS, Cell

pytestmark = [pytest.mark.slow, pytest.mark.matrix, pytest.mark.timeout(900)]

PICTURES = 25


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
    outcome = bench.run(
        published_copy,
        tmp_path,
        faults={} if cell.phase else cell.scenario,
        meanwhile=set_in_phase(cell),
        arguments=cell.arguments,
        conf=cell.conf,
        run_seconds=600,
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
    if cell.ends == "failed":
        assert snapshot(published_copy) == before
        assert len(list(published_copy.glob("runs/*/manifest.json"))) == 1, "only the previous run has a manifest"
    images = PICTURES * (cell.copies if cell.ends == "success" else 1)
    assert len(pd.read_parquet(published_copy / "results")) == images
