"""A task that is stuck on a slow node: with the settings of a step on spot nodes, another attempt replaces it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyspark
import pytest
from PIL import Image

from include.cluster.steps import SPECULATION
from local.processes.ports import free_ports
from spark_jobs.args import FeaturizeArgs
from tests.spark_jobs.featurize.test_lost_executor import end
from tests.spark_jobs.featurize.test_submit_featurize import REPOSITORY, SPARK_SUBMIT, environment
from tests.spark_jobs.stuck_featurize import STUCK_AT

IMAGES = 60
TASKS = 20

pytestmark = [pytest.mark.soak, pytest.mark.slow]


@contextmanager
def start_cluster(folder: Path, environ: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Start Spark's own cluster manager with two workers; yield its address, and the environment.

    Spark does not start the second attempt on the host of the first one, so the workers have different addresses.
    """
    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    [port] = free_ports(1)
    master = f"spark://127.0.0.1:{port}"
    options = ("--cores", "1", "--memory", "1g", "--webui-port", "0", "--work-dir", str(folder / "work"), master)
    programs = [
        ("master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"),
        *(("worker.Worker", "--host", f"127.0.0.{number}", *options) for number in (2, 3)),
    ]
    running = []
    try:
        for name, *words in programs:
            command = [str(spark_class), f"org.apache.spark.deploy.{name}", *words]
            address = environ | ({"SPARK_LOCAL_IP": words[1]})
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            running.append(subprocess.Popen(command, env=address, **quiet))  # type: ignore[call-overload]
        yield master, environ
    finally:
        for process in reversed(running):
            end(process)


def test_stuck_attempt_does_not_delay_the_job(tmp_path: Path, model_folder: Path) -> None:
    photos = tmp_path / "photos" / "label"
    photos.mkdir(parents=True)
    for number in range(IMAGES):
        value = STUCK_AT if number == 0 else 100 + number
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(photos / f"{number:03}.png")
    arguments = FeaturizeArgs(
        images=f"file://{tmp_path}/photos",
        run=f"file://{tmp_path}/run",
        model=f"file://{model_folder}",
        pattern="*.png",
        images_per_task=IMAGES // TASKS,
    )
    stuck = tmp_path / "stuck"
    with start_cluster(tmp_path, environment(STUCK_FILE=str(stuck), PYTHONPATH=str(REPOSITORY))) as (master, environ):
        settings = {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.executor.memory": "512m",
            **SPECULATION,
        }
        driver = subprocess.Popen(
            [
                *(str(SPARK_SUBMIT), "--master", master),
                *(word for name, value in settings.items() for word in ("--conf", f"{name}={value}")),
                *(str(Path(__file__).parents[1] / "stuck_featurize.py"), *arguments.to_argv()),
            ],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert driver.wait(120) == 0
            assert stuck.exists(), "else no attempt was stuck"
        finally:
            stuck.unlink(missing_ok=True)
            end(driver)
    summary = json.loads((tmp_path / "run" / "featurize.json").read_text())
    assert (summary["listed"], summary["features"], summary["rejects"]) == (IMAGES, IMAGES, 0)
