"""Both jobs with nothing but what nodes install: the wheelhouse is complete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.artifacts.bundle import ENTRYPOINTS, JOBS_ZIP, build_bundle
from spark_jobs.args import FeaturizeArgs, PcaArgs
from tests.include.nodes import Node, needs_wheelhouse, real_node


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node that the bootstrap action has prepared from the real wheelhouse."""
    return real_node(tmp_path_factory.mktemp("node"))


@needs_wheelhouse
@pytest.mark.slow
def test_both_jobs_run_with_nothing_but_the_wheelhouse(
    node: Node, tmp_path: Path, few_photos: Path, model_folder: Path
) -> None:
    """Driver and workers are the node's Python; the jobs come from the bundle; Spark is the cluster's own."""
    bundle = tmp_path / "code"
    bundle.mkdir()
    for name, data in build_bundle().files.items():
        (bundle / name).write_bytes(data)
    run = f"file://{tmp_path}/run"
    arguments = {
        "featurize": FeaturizeArgs(images=f"file://{few_photos}", run=run, model=f"file://{model_folder}"),
        "pca": PcaArgs(run=run, variance_target=0.8),
    }
    spark = Path(sys.executable).parent.parent / "lib" / "python3.11" / "site-packages" / "pyspark"
    environment = {
        **{name: os.environ[name] for name in ("PATH", "JAVA_HOME") if name in os.environ},
        "SPARK_HOME": str(spark),
        "PYSPARK_PYTHON": str(node.python),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
        "PYTHONNOUSERSITE": "1",
    }
    flags = ["--master", "local[2]", "--conf", "spark.ui.enabled=false", "--py-files", str(bundle / JOBS_ZIP)]
    for job in ENTRYPOINTS:
        done = subprocess.run(
            [str(spark / "bin" / "spark-submit"), *flags, str(bundle / f"{job}.py"), *arguments[job].to_argv()],
            cwd=bundle,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "run" / "featurize.json").read_text())
    assert (summary["features"], summary["rejects"]) == (9, 0)
    assert json.loads((tmp_path / "run" / "pca.json").read_text())["images"] == 9


@needs_wheelhouse
@pytest.mark.slow
def test_nodes_environment_has_no_spark_of_its_own_and_none_of_ours(node: Node) -> None:
    names = ("pyspark", "tensorflow", "airflow", "boto3")
    code = f"import importlib.util as util; print([name for name in {names} if util.find_spec(name)])"
    done = subprocess.run([str(node.python), "-c", code], env={}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
