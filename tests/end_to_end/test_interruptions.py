"""`make run` stopped midway, by a person or by force: nothing is left running, and nothing that people read is lost."""

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
import pytest

from local.emr.spark.s3_connector import connector_folder, connector_jars
from local.s3.process import StoreProcess
from tests.end_to_end.conftest import put_pictures, snapshot

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOAK_TRIALS = 8
LONGEST_SECONDS = 50.0
PATIENCE_SECONDS = 240


def start_run(folder: Path, output: Path, *arguments: str) -> subprocess.Popen:
    """Start `make run`'s program on a lake and a state of its own."""
    command = [sys.executable, "-m", "local.run", "--images", str(folder / "photos")]
    command += ["--lake", str(folder / "lake"), "--state", str(folder / "state"), *arguments]
    with output.open("wb") as stream:
        return subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream, start_new_session=True)


def finish(process: subprocess.Popen, output: Path) -> str:
    """Wait for a run that has to succeed; return what it printed."""
    code = process.wait(PATIENCE_SECONDS)
    text = output.read_text(encoding="utf-8")
    assert code == 0, text
    return text


def wait_for_text(output: Path, text: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while text not in output.read_text(encoding="utf-8"):
        assert process.poll() is None, output.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, output.read_text(encoding="utf-8")
        time.sleep(0.1)


def processes_of(folder: Path) -> list[list[str]]:
    """Return the command lines of the processes that work in a folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
        places = [*(process.info["cmdline"] or []), process.info["cwd"] or ""]
        if process.pid != os.getpid() and any(str(folder) in place for place in places):
            found.append(process.info["cmdline"])
    return found


def wait_for_silence(folder: Path) -> list[list[str]]:
    """Give the processes that lost their parent some time to end; return those that did not."""
    deadline = time.monotonic() + 60
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.5)
    return processes_of(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which one run has succeeded."""
    folder = tmp_path_factory.mktemp("interruptions")
    put_pictures(folder / "photos")
    output = folder / "first.txt"
    text = finish(start_run(folder, output), output)
    assert "images      25" in text
    return folder


def test_make_run_tells_where_everything_is(folder):
    text = (folder / "first.txt").read_text(encoding="utf-8")
    for place in ("results", "results_csv/pca_features.csv", "runs"):
        assert f"{folder}/lake/{place}" in text
    assert "wait_featurize" in text
    assert len(pd.read_parquet(folder / "lake" / "results")) == 25


def test_second_folder_replaces_the_first(folder, tmp_path):
    other = tmp_path / "photos"
    put_pictures(other, per_label=2)
    output = tmp_path / "output.txt"
    shutil.copytree(folder / "lake", tmp_path / "lake")
    text = finish(start_run(folder, output, "--images", str(other), "--lake", str(tmp_path / "lake")), output)
    assert "images      9" in text
    assert len(pd.read_parquet(tmp_path / "lake" / "results")) == 9
    assert len(list((tmp_path / "lake" / "data").glob("*/*"))) == 9


def test_ctrl_c_ends_everything(folder, tmp_path):
    before, output = snapshot(folder / "lake"), tmp_path / "output.txt"
    process = start_run(folder, output)
    wait_for_text(output, "add_featurize      done", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == 130
    assert processes_of(folder) == []
    assert snapshot(folder / "lake") == before


def test_killing_it_leaves_nothing_running(folder, tmp_path):
    before, output = snapshot(folder / "lake"), tmp_path / "output.txt"
    process = start_run(folder, output)
    wait_for_text(output, "add_featurize      done", process)
    process.kill()
    process.wait(PATIENCE_SECONDS)
    assert wait_for_silence(folder) == []
    assert snapshot(folder / "lake") == before


def test_a_second_run_at_the_same_time_is_refused(folder, tmp_path):
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    process = start_run(folder, first)
    wait_for_text(first, "images:", process)
    refused = start_run(folder, second)
    assert refused.wait(PATIENCE_SECONDS) == 2
    assert "another `make run`" in second.read_text(encoding="utf-8")
    process.send_signal(signal.SIGINT)
    process.wait(PATIENCE_SECONDS)


@pytest.mark.soak
@pytest.mark.skipif(
    not connector_jars(connector_folder()),
    reason="Spark's S3 connector could not be fetched from Maven Central (make setup STORE=s3 says why)",
)
def test_on_s3_it_is_the_same(folder, tmp_path):
    """`make run STORE=s3`, killed with its store midway: nothing is left running, and the next one ends well."""
    state = tmp_path / "state"
    (state / "models").parent.mkdir()
    (state / "models").symlink_to(folder / "state" / "models")
    arguments = ("--store", "s3", "--lake", "s3://fruits/deep/lake", "--state", str(state))
    process = start_run(folder, tmp_path / "first.txt", *arguments)
    wait_for_text(tmp_path / "first.txt", "add_featurize      done", process)
    process.kill()
    process.wait(PATIENCE_SECONDS)
    assert wait_for_silence(tmp_path) == []
    for number in range(2):
        output = tmp_path / f"{number}.txt"
        text = finish(start_run(folder, output, *arguments), output)
        assert "images: 25" in text
        assert "(0 new, 0 removed)" in text
        assert "s3://fruits/deep/lake/results_csv/pca_features.csv" in text
    assert wait_for_silence(tmp_path) == []
    keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    with StoreProcess(state / "s3", environment=os.environ | keys) as store:
        options = {"key": "local", "secret": "local", "client_kwargs": {"endpoint_url": store.url}}
        results = pd.read_parquet("s3://fruits/deep/lake/results", storage_options=options)
    assert len(results) == results["path"].nunique() == 25
    assert results["path"].str.startswith("s3://fruits/deep/lake/data/").all()


@pytest.mark.soak
@pytest.mark.timeout(SOAK_TRIALS * 2 * PATIENCE_SECONDS)
def test_killed_at_any_moment(folder, tmp_path):
    """Killed at random moments, publishing among them: no image is missing, and the next run mends the rest."""
    source = random.Random(2026)
    for trial in range(SOAK_TRIALS):
        output = tmp_path / f"{trial}.txt"
        process = start_run(folder, output)
        time.sleep(source.uniform(0.5, LONGEST_SECONDS))
        process.kill()
        process.wait(PATIENCE_SECONDS)
        assert wait_for_silence(folder) == [], trial
        results = pd.read_parquet(folder / "lake" / "results")
        assert {len(features) for features in results["features"]} == {1280}, trial
        assert set(results["path"]) == {f"file://{path}" for path in (folder / "lake" / "data").glob("*/*")}, trial
        assert len(pd.read_csv(folder / "lake" / "results_csv" / "pca_features.csv")) == 25, trial
    output = tmp_path / "last.txt"
    finish(start_run(folder, output), output)
    assert len(pd.read_parquet(folder / "lake" / "results")) == 25
