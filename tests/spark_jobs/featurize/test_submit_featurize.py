"""The job as a cluster runs it: ``spark-submit`` with nothing but the zip and the entry point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spark_jobs.args import FEATURE_DIMENSIONS, FeaturizeArgs

REPOSITORY = Path(__file__).resolve().parents[3]
SPARK_SUBMIT = Path(sys.executable).with_name("spark-submit")

pytestmark = pytest.mark.slow


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with the zip and the entry point, far from the repository."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    with zipfile.ZipFile(folder / "spark_jobs.zip", "w") as archive:
        for module in sorted((REPOSITORY / "spark_jobs").rglob("*.py")):
            archive.write(module, module.relative_to(REPOSITORY))
    shutil.copyfile(REPOSITORY / "spark_jobs" / "entrypoints" / "featurize.py", folder / "featurize.py")
    return folder


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYSPARK", "SPARK"))}
    return {**kept, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1", "LC_ALL": "C.UTF-8", **more}


def submit(bundle: Path, master: str, arguments: FeaturizeArgs) -> subprocess.CompletedProcess[str]:
    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.executor.cores": "1",
    }
    flags = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    return subprocess.run(
        [
            *(str(SPARK_SUBMIT), "--master", master, *flags, "--py-files", str(bundle / "spark_jobs.zip")),
            *(str(bundle / "featurize.py"), *arguments.to_argv()),
        ],
        cwd=bundle,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def arguments(few_photos: Path, tmp_path: Path, model_folder: Path) -> FeaturizeArgs:
    return FeaturizeArgs(
        images=f"file://{few_photos}", run=f"file://{tmp_path}/run", model=f"file://{model_folder}", images_per_task=2
    )


def test_a_real_executor_needs_only_the_zip(bundle: Path, arguments: FeaturizeArgs, tmp_path: Path) -> None:
    done = submit(bundle, "local-cluster[1,1,1024]", arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "run" / "featurize.json").read_text())
    assert (summary["listed"], summary["features"], summary["rejects"]) == (9, 9, 0)
    assert set(summary["seconds"]) == {"start", "list", "featurize", "write", "total"}
    (file,) = (tmp_path / "run" / "segments").glob("run-*-00000/features.parquet")
    assert {len(row) for row in pq.read_table(file, partitioning=None)["features"].to_pylist()} == {FEATURE_DIMENSIONS}
    # spark-submit sends both streams of the Python driver to its standard output.
    assert "featurize done: 9 images listed, 9 computed, 9 features, 0 rejects in" in done.stdout.splitlines()[-1]


def test_a_known_problem_is_the_last_line_and_a_non_zero_exit(bundle: Path, arguments: FeaturizeArgs) -> None:
    shutil.rmtree(arguments.images.removeprefix("file://"))
    done = submit(bundle, "local[1]", arguments)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("spark_jobs.images.changes.NoImagesError: the folder of images file://")
    assert "does not exist; put images at file://" in last
    assert "Traceback" not in done.stdout + done.stderr


def run_entry_point(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run with plain Python, with an empty pyspark in the way of the real one."""
    (bundle / "pyspark.py").write_text("raise ImportError('Spark was imported')")
    return subprocess.run(
        [sys.executable, str(bundle / "featurize.py"), *arguments],
        cwd=bundle,
        env=environment(PYTHONPATH=str(bundle / "spark_jobs.zip")),
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_needs_no_spark(bundle: Path) -> None:
    done = run_entry_point(bundle, "--help")
    assert done.returncode == 0, done.stderr
    assert "--max-reject-ratio" in done.stdout


@pytest.mark.parametrize("flag", ["--max-reject-ratio=2", "--images-per-task=0", "--unknown=1"])
def test_wrong_arguments_exit_with_2(bundle: Path, arguments: FeaturizeArgs, flag: str) -> None:
    done = run_entry_point(bundle, *arguments.to_argv(), flag)
    assert done.returncode == 2
    assert flag.partition("=")[0] in done.stderr
