"""The pca job, killed at a percentage of its progress, has not written its summary."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from include.autopsy.examination import examine_step
from include.autopsy.symptoms import Kind
from tests.spark_jobs.feature_runs import realistic, write_run

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run that featurize completed without the moments, so that pca has two passes."""
    folder = tmp_path / "run"
    write_run(folder, realistic(600, 64), rows_a_file=150)
    return folder


@pytest.fixture
def command(tmp_path: Path, run_folder: Path) -> list[str]:
    """The pca job, as the DAG submits it."""
    shutil.make_archive(str(tmp_path / "spark_jobs"), "zip", REPOSITORY, "spark_jobs")
    shutil.copyfile(REPOSITORY / "spark_jobs" / "entrypoints" / "pca.py", tmp_path / "pca.py")
    return [
        *("timeout", "--signal=TERM", "--kill-after=60s", "10m", "spark-submit", "--master", "yarn"),
        *("--deploy-mode", "client", "--py-files", f"file://{tmp_path}/spark_jobs.zip", f"file://{tmp_path}/pca.py"),
        f"--run=file://{run_folder}",
    ]


@pytest.mark.parametrize(("percent", "phase"), [(0, "pca-moments"), (99, "pca-scores")])
def test_pca_is_killed_before_it_commits(
    emr: Any, command: list[str], run_folder: Path, percent: int, phase: str
) -> None:
    fault = {"name": "pca", "kills": "driver", "at_percent": percent, "progress": phase}
    emr.set_faults({"steps": [fault]})
    cluster = emr.create()
    [killed] = emr.add(cluster, emr.step(*command, name="pca"))
    assert emr.await_step(cluster, killed)["State"] == "FAILED"
    assert not (run_folder / "pca.json").exists(), "readers use the summary, which is written last"
    stdout = (emr.folder(cluster, killed) / "stdout").read_text()
    assert f"progress {phase}: " in stdout
    if percent == 99:
        assert f"progress {phase}: 600/600 images (100 %)" in stdout
        assert list((run_folder / "pca" / "scores").glob("*.parquet"))
    described = emr.client.describe_step(ClusterId=cluster, StepId=killed)["Step"]
    assert examine_step(described, emr.cluster(cluster), None, 30).diagnosis.kind == Kind.OUT_OF_MEMORY
