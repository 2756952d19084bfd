"""The pca job as a cluster runs it: executor processes that have only the zip of the project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import pytest

from tests.spark_jobs.feature_runs import feature_name, moments_file, realistic, write_run

REPOSITORY = Path(__file__).resolve().parents[3]
ENTRY_POINT = REPOSITORY / "spark_jobs" / "entrypoints" / "pca.py"

pytestmark = pytest.mark.slow


def submit(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run ``spark-submit`` outside the repository and without PYTHONPATH, so that only the zip provides the package.

    ``spark-submit`` merges the standard error of a Python program into its own standard output.
    """
    archive = folder / "spark_jobs.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((REPOSITORY / "spark_jobs").rglob("*.py")):
            file.write(path, path.relative_to(REPOSITORY))
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SPARK_HOME")}
    command = [
        str(Path(sys.executable).with_name("spark-submit")),
        "--master=local-cluster[1,1,1024]",
        "--conf=spark.driver.bindAddress=127.0.0.1",
        "--conf=spark.driver.host=127.0.0.1",
        "--conf=spark.ui.enabled=false",
        f"--py-files={archive}",
        str(ENTRY_POINT),
        *flags,
    ]
    return subprocess.run(
        command,
        cwd=folder,
        env={**environment, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_cluster_with_only_the_zip(tmp_path: Path) -> None:
    vectors = realistic(500, 200)
    uri = write_run(tmp_path / "a run", vectors, rows_a_file=100, with_moments=True)
    moments_file(tmp_path / "a run", 3).unlink()  # forces a pass over the vectors
    done = submit(tmp_path, f"--run={uri}")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "a run" / "pca.json").read_text())
    rows = vectors.astype(np.float64)
    ratio = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    k = int((ratio.cumsum() / ratio.sum() >= 0.8).argmax()) + 1
    assert (summary["images"], summary["k"]) == (500, k)
    assert (summary["moments"]["stored"], list(summary["moments"]["computed"])) == (4, [feature_name(3)])
    assert ds.dataset(tmp_path / "a run" / "pca" / "scores").count_rows() == 500
    assert len((tmp_path / "a run" / "pca" / "pca_features.csv").read_text().splitlines()) == 501
    assert "pca done: 500 images" in done.stdout.splitlines()[-1]


def test_a_known_problem_is_the_last_line_and_exit_code_1(tmp_path: Path) -> None:
    """Without ``spark-submit``, whose handling of exit codes test_submit_featurize.py covers."""
    done = subprocess.run(
        [sys.executable, str(ENTRY_POINT), f"--run={(tmp_path / 'run').as_uri()}"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("spark_jobs.errors.JobError: featurize has not completed for this run")
    assert "Traceback" not in done.stdout + done.stderr
