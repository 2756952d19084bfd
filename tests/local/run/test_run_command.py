"""`make run`: its options, its lock, its child processes and what it tells at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from include.lake.layout import Lake
from include.reports.report import build_report
from include.settings.form import run_params
from include.settings.parameters import RunParams
from local.airflow.home import RunError, alone
from local.processes.children import running
from local.run import __main__ as command
from local.run.__main__ import read_options, read_params
from local.run.failure import failure_text
from local.run.store import locate_lake
from local.run.summary import success_text
from local.run.watch import RunState
from tests.include.run_records import SLUG, manifest


def test_values_have_the_types_that_the_form_would_give_them() -> None:
    params = read_params(
        ["variance_target=0.9", "images_per_task=32", 'core_instance_types=["m7g.xlarge"]', "data_prefix=data/new"]
    )
    assert params == {
        "variance_target": 0.9,
        "images_per_task": 32,
        "core_instance_types": ["m7g.xlarge"],
        "data_prefix": "data/new",
    }
    for name, value in params.items():
        run_params()[name].resolve(value)


@pytest.mark.parametrize("value", ["2026", "1e5", "true", "null", "[a]", "a=b", "", "crème brûlée"])
def test_text_stays_text(value: str) -> None:
    assert read_params([f"data_prefix={value}"]) == {"data_prefix": value}


def test_wrong_value_of_a_number_is_left_for_the_dag_to_refuse() -> None:
    assert read_params(["variance_target=high"]) == {"variance_target": "high"}


@pytest.mark.parametrize("text", ["variance=0.9", "variance_target", "", "=1", "VARIANCE_TARGET=1"])
def test_unknown_parameter_is_told_with_those_that_exist(text: str) -> None:
    with pytest.raises(RunError, match=r"expected NAME=VALUE with a NAME of data_prefix, .*variance_target"):
        read_params([text])


def test_command_refuses_wrong_parameters_before_it_starts_anything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "EndpointProcess", lambda *_, **__: pytest.fail("the endpoint was started"))
    assert command.main(["--lake", str(tmp_path / "lake"), "--state", str(tmp_path / "state"), "--param", "x=1"]) == 2
    assert "make run: --param 'x=1': expected NAME=VALUE" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "lake").exists()


def test_missing_images_end_the_command_with_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    argv = ["--lake", str(tmp_path / "lake"), "--state", str(tmp_path / "state"), "--images", str(tmp_path / "none")]
    assert command.main(argv) == 2
    assert f"make run: IMAGES={tmp_path / 'none'}: not a folder" in capsys.readouterr().out


def test_help_names_every_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_options(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for name in RunParams.__dataclass_fields__:
        assert name in shown


def test_second_run_at_the_same_time_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "state" / "run.lock"
    with alone(lock), pytest.raises(RunError, match="another `make run` is working"), alone(lock):
        pytest.fail("two runs at once")
    with alone(lock):
        pass  # free again


def test_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    code = f"""
import pathlib, time
from local.airflow.home import alone
with alone(pathlib.Path({str(tmp_path / "lock")!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError), alone(tmp_path / "lock"):
            pass
        holder.kill()
    with alone(tmp_path / "lock"):
        pass


def await_gone(pids: list[int]) -> list[int]:
    """Return the processes that are still there; the limit only turns a hang into a failure."""
    deadline = time.monotonic() + 60
    left = pids
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
        time.sleep(0.02)
    return left


def test_child_and_its_children_end_with_the_block(tmp_path: Path) -> None:
    shell = f"sleep 600 & echo $! >> {tmp_path}/pids; echo $$ >> {tmp_path}/pids; echo é; wait"
    with running(["bash", "-c", shell], environ=dict(os.environ), log=tmp_path / "log", cwd=tmp_path):
        while not (tmp_path / "log").read_text(encoding="utf-8"):
            time.sleep(0.02)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert await_gone(pids) == []


def test_child_ends_when_the_block_fails(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        running(["sleep", "600"], environ=dict(os.environ), log=tmp_path / "log", cwd=tmp_path) as process,
    ):
        raise KeyboardInterrupt
    assert process.poll() is not None


def test_child_has_only_the_environment_that_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    with running(["/usr/bin/env"], environ={"A": "b"}, log=tmp_path / "log", cwd=tmp_path) as process:
        process.wait()
    assert (tmp_path / "log").read_text() == "A=b\n"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with a published run, as far as the summary reads it."""
    (tmp_path / "runs" / SLUG).mkdir(parents=True)
    (tmp_path / "current.json").write_text(json.dumps({"run": SLUG}))
    put_report(tmp_path, manifest(verified={"warnings": ["the target was not reached"]}))
    return tmp_path


def put_report(lake: Path, record: dict[str, Any]) -> None:
    (lake / "runs" / SLUG / "report.json").write_text(json.dumps(build_report(record)), encoding="utf-8")


def test_summary_tells_what_was_asked_for(lake: Path) -> None:
    shown = success_text(Lake(f"file://{lake}"))
    for part in ("images      3", "rejects     1 (1 truncated", "2 explain 90.00% of the variance",
                 "quality     neighbours name the label of ", "featurize",
                 "moments 0.5", f"{lake}/results ", f"{lake}/results_csv/pca_features.csv", "report.html",
                 "WARNING     the target was not reached"):  # fmt: skip
        assert part in shown
    assert "RANDOM" not in shown


def test_summary_says_that_weights_were_random(lake: Path) -> None:
    put_report(lake, manifest() | {"model": {"weights": {"source": "random"}}})
    assert "RANDOM WEIGHTS were used" in success_text(Lake(f"file://{lake}"))


@pytest.mark.parametrize(
    ("lake", "store", "root"),
    [
        ("/data/lake", "folder", "file:///data/lake"),
        ("file:///data/mon lac", "folder", "file:///data/mon lac"),
        (None, "s3", "s3://fruits"),
        ("s3://photos/2026/", "s3", "s3://photos/2026"),
    ],
)
def test_lake_is_located_by_its_store(lake: str | None, store: str, root: str) -> None:
    assert locate_lake(lake, store) == root


@pytest.mark.parametrize(
    ("lake", "store", "told"),
    [
        ("s3://fruits", "folder", "add STORE=s3"),
        ("/data", "s3", r"expected s3://bucket"),
        ("s3://", "s3", "expected"),
        ("s3://fruits/my lake", "s3", "only"),
    ],
)
def test_lake_of_the_other_store_is_refused(lake: str, store: str, told: str) -> None:
    with pytest.raises(RunError, match=told):
        locate_lake(lake, store)


def test_failure_tells_the_task_and_the_last_errors_once(tmp_path: Path) -> None:
    log = tmp_path / "airflow.log"
    lines = [f"noise {number}\nValueError: cause {number}" for number in range(9)]
    log.write_text("\n".join([*lines, "ValueError: cause 8", "airflow.sdk.exceptions.AirflowFailException: é \udc80"]),
                   encoding="utf-8", errors="surrogateescape")  # fmt: skip
    shown = failure_text(RunState("r", "failed", {"wait_pca": "failed", "open_run": "success"}), log)
    assert "The run FAILED in wait_pca." in shown
    assert "cause 0" not in shown
    assert shown.count("cause 8") == 1
    assert "AirflowFailException: é" in shown
    assert str(log) in shown


def test_failure_before_airflow_wrote_anything_is_told_too(tmp_path: Path) -> None:
    shown = failure_text(None, tmp_path / "missing.log")
    assert "The run FAILED." in shown
    assert "missing.log" in shown
