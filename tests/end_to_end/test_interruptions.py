"""`make run` interrupted by Ctrl-C or SIGKILL: nothing keeps running, and the published files are unchanged."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from local.airflow.orphans import find_orphaned_runs
from local.emr.spark.s3_connector import connector_folder, connector_jars
from local.s3.process import StoreProcess
from tests.end_to_end.conftest import put_pictures, snapshot
from tests.s3_store import REGION

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOAK_TRIALS = 8
LONGEST_SECONDS = 50.0
TIMEOUT_SECONDS = 240


def start_run(folder: Path, output: Path, *arguments: str) -> subprocess.Popen:
    """Start the program of `make run` with a separate lake and state."""
    command = [sys.executable, "-m", "local.run", "--images", str(folder / "photos")]
    command += ["--lake", str(folder / "lake"), "--state", str(folder / "state"), *arguments]
    with output.open("wb") as stream:
        return subprocess.Popen(
            command, cwd=ROOT, stdout=stream, stderr=stream, start_new_session=True, preexec_fn=accept_ctrl_c
        )


def accept_ctrl_c() -> None:
    """Reset SIGINT, which a shell ignores in the background processes that it starts, such as this test run."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process: subprocess.Popen, output: Path) -> str:
    """Wait for a run that must succeed; return its output."""
    code = process.wait(TIMEOUT_SECONDS)
    text = output.read_text(encoding="utf-8")
    assert code == 0, text
    return text


def wait_for_text(output: Path, text: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while text not in output.read_text(encoding="utf-8"):
        assert process.poll() is None, output.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, output.read_text(encoding="utf-8")
        time.sleep(0.1)


def processes_of(folder: Path) -> list[list[str]]:
    """Return the command lines of the processes that use a folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        places = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if process.pid != os.getpid() and any(str(folder) in place for place in places):
            found.append(process.info["cmdline"])
    return found


def wait_until_stopped(folder: Path) -> list[list[str]]:
    """Wait until no process uses a folder; return those that still do after a minute."""
    deadline = time.monotonic() + 60
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.5)
    return processes_of(folder)


@pytest.fixture(scope="module")
def folder(published, bench, tmp_path_factory):
    """A folder with a state and photos, and with a lake to which a run has published."""
    folder = tmp_path_factory.mktemp("interruptions")
    shutil.copytree(published[0], folder / "lake", ignore=shutil.ignore_patterns("data"))
    put_pictures(folder / "photos")
    (folder / "state").mkdir()
    (folder / "state" / "models").symlink_to(bench.models)
    return folder


def test_a_second_run_is_refused_and_ctrl_c_ends_the_first(folder, tmp_path):
    before, output, second = snapshot(folder / "lake"), tmp_path / "output.txt", tmp_path / "second.txt"
    process = start_run(folder, output)
    wait_for_text(output, "images: 25", process)
    refused = start_run(folder, second)
    assert refused.wait(TIMEOUT_SECONDS) == 2
    assert "another `make run`" in second.read_text(encoding="utf-8")
    wait_for_text(output, "add_featurize      done", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_SECONDS) == 130
    assert processes_of(folder) == []
    assert snapshot(folder / "lake") == before


def kill_in_featurize(folder: Path, output: Path) -> None:
    """Start a run, kill it in its first step, and wait until nothing of it runs."""
    process = start_run(folder, output)
    wait_for_text(output, "add_featurize      done", process)
    process.kill()
    process.wait(TIMEOUT_SECONDS)
    assert wait_until_stopped(folder) == []


def test_killed_it_leaves_nothing_running(folder, tmp_path):
    before = snapshot(folder / "lake")
    kill_in_featurize(folder, tmp_path / "output.txt")
    assert snapshot(folder / "lake") == before


@pytest.mark.soak  # test_orphaned_runs.py kills runs at each moment, with a small DAG
def test_after_a_kill_the_next_run_replaces_the_photos(folder, tmp_path):
    output = tmp_path / "output.txt"
    kill_in_featurize(folder, output)
    other = tmp_path / "photos"
    put_pictures(other, per_label=2)
    text = finish(start_run(folder, output, "--images", str(other)), output)
    assert "images      9" in text
    assert "an earlier run was interrupted" in text
    assert find_orphaned_runs(folder / "state" / "airflow" / "airflow.db") == []
    for place in ("results", "results_csv/pca_features.csv", "runs"):
        assert f"{folder}/lake/{place}" in text
    assert "wait_featurize" in text
    assert len(pd.read_parquet(folder / "lake" / "results")) == 9
    assert len(list((folder / "lake" / "data").glob("*/*"))) == 9


@pytest.mark.soak
@pytest.mark.skipif(
    not connector_jars(connector_folder()),
    reason="Spark's S3 connector could not be fetched from Maven Central (make setup STORE=s3 says why)",
)
def test_killed_on_s3_the_next_runs_succeed(folder, tmp_path):
    """`make run STORE=s3`, killed with its store: nothing keeps running, and the next run succeeds."""
    state = tmp_path / "state"
    (state / "models").parent.mkdir()
    (state / "models").symlink_to(folder / "state" / "models")
    arguments = ("--store", "s3", "--lake", "s3://fruits/deep/lake", "--state", str(state))
    process = start_run(folder, tmp_path / "first.txt", *arguments)
    wait_for_text(tmp_path / "first.txt", "add_featurize      done", process)
    process.kill()
    process.wait(TIMEOUT_SECONDS)
    assert wait_until_stopped(tmp_path) == []
    for number in range(2):
        output = tmp_path / f"{number}.txt"
        text = finish(start_run(folder, output, *arguments), output)
        assert "images: 25" in text
        assert "(0 new, 0 removed)" in text
        assert "s3://fruits/deep/lake/results_csv/pca_features.csv" in text
    assert wait_until_stopped(tmp_path) == []
    keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    with StoreProcess(state / "s3", environment=os.environ | keys) as store:
        files = fs.S3FileSystem(endpoint_override=store.url, region=REGION, access_key="local", secret_key="local")
        results = pq.read_table("fruits/deep/lake/results", filesystem=files).to_pandas()
    assert len(results) == results["path"].nunique() == 25
    assert results["path"].str.startswith("s3://fruits/deep/lake/data/").all()


@pytest.mark.soak
@pytest.mark.timeout(SOAK_TRIALS * 2 * TIMEOUT_SECONDS)
def test_killed_at_any_moment(folder, tmp_path):
    """Killed at random moments, also while publishing: no image is missing, and the next run succeeds."""
    source = random.Random(2026)
    for trial in range(SOAK_TRIALS):
        output = tmp_path / f"{trial}.txt"
        process = start_run(folder, output)
        time.sleep(source.uniform(0.5, LONGEST_SECONDS))
        process.kill()
        process.wait(TIMEOUT_SECONDS)
        assert wait_until_stopped(folder) == [], trial
        results = pd.read_parquet(folder / "lake" / "results")
        assert {len(features) for features in results["features"]} == {1280}, trial
        assert set(results["path"]) == {f"file://{path}" for path in (folder / "lake" / "data").glob("*/*")}, trial
        assert len(pd.read_csv(folder / "lake" / "results_csv" / "pca_features.csv")) == 25, trial
    output = tmp_path / "last.txt"
    finish(start_run(folder, output), output)
    assert find_orphaned_runs(folder / "state" / "airflow" / "airflow.db") == []
    assert len(pd.read_parquet(folder / "lake" / "results")) == 25
