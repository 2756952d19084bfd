"""An executor that is lost costs its own work only: what other tasks, and its own earlier ones, have done stays."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from spark_jobs.args import FeaturizeArgs
from tests.spark_jobs.conftest import write_photos
from tests.spark_jobs.featurize.test_submit_featurize import REPOSITORY, SPARK_SUBMIT, environment

IMAGES = 180
IMAGES_PER_TASK = 12
KILLED_AFTER = 60


def executors(driver: int) -> list[psutil.Process]:
    return [each for each in psutil.Process(driver).children(recursive=True) if is_executor(each)]


def is_executor(process: psutil.Process) -> bool:
    try:
        return any("CoarseGrainedExecutorBackend" in word for word in process.cmdline())
    except psutil.NoSuchProcess:  # one that has ended meanwhile
        return False


def end(driver: subprocess.Popen[bytes]) -> None:
    """Kill a driver and its executors, if it still runs."""
    if driver.poll() is None:
        for process in [*psutil.Process(driver.pid).children(recursive=True), driver]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        driver.wait()


@pytest.mark.slow
def test_a_lost_executor_costs_the_task_it_was_at(tmp_path: Path, model_folder: Path) -> None:
    write_photos(tmp_path / "photos", labels=3, images_per_label=IMAGES // 3)
    arguments = FeaturizeArgs(
        images=f"file://{tmp_path}/photos",
        run=f"file://{tmp_path}/run",
        model=f"file://{model_folder}",
        images_per_task=IMAGES_PER_TASK,
    )
    calls = tmp_path / "calls"
    calls.touch()
    flags = ["spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1", "spark.ui.enabled=false"]
    program = Path(__file__).parents[1] / "counted_featurize.py"
    driver = subprocess.Popen(
        [
            *(str(SPARK_SUBMIT), "--master", "local-cluster[2,1,1024]"),
            *(part for flag in flags for part in ("--conf", flag)),
            *(str(program), *arguments.to_argv()),
        ],
        env=environment(COUNTED_FILE=str(calls), PYTHONPATH=str(REPOSITORY), SPARK_WORKER_DIR=str(tmp_path / "work")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while len(calls.read_text().splitlines()) < KILLED_AFTER:
            assert time.monotonic() < deadline
            assert driver.poll() is None
            time.sleep(0.02)
        victim = executors(driver.pid)[0]
        victim.kill()
        assert driver.wait(120) == 0
    finally:
        end(driver)
    summary = json.loads((tmp_path / "run" / "featurize.json").read_text())
    assert (summary["listed"], summary["features"], summary["rejects"]) == (IMAGES, IMAGES, 0)
    counted = len(calls.read_text().splitlines())
    assert IMAGES <= counted <= IMAGES + IMAGES_PER_TASK
