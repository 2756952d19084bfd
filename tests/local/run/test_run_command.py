"""`make run`: its options, its lock, its child processes and its last message."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
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
from local.airflow.home import RunError, state_lock
from local.emr.spark.s3_connector import connector_folder, connector_jars
from local.processes.children import running
from local.run import __main__ as command
from local.run.__main__ import read_options, read_params
from local.run.locations import absolute, locate_lake
from local.run.store import lake_lock
from local.run.summary import success_text
from local.s3.process import KEYS, StoreProcess
from spark_jobs.left_out import LeftOutCounter, warn
from tests.include.run_records import SLUG, featurize_summary, manifest
from tests.s3_store import client


def test_values_have_the_types_that_the_form_would_give_them() -> None:
    params = read_params(
        'variance_target=0.9 images_per_task=32 core_instance_types=["m7g.xlarge"] data_prefix=data/new'
    )
    assert params == {
        "variance_target": 0.9,
        "images_per_task": 32,
        "core_instance_types": ["m7g.xlarge"],
        "data_prefix": "data/new",
    }
    assert read_params(json.dumps(params)) == params
    assert read_params('{"data_prefix": "my photos"}') == {"data_prefix": "my photos"}
    for name, value in params.items():
        run_params()[name].resolve(value)


@pytest.mark.parametrize("value", ["2026", "1e5", "true", "null", "[a]", "a=b", "", "crème/brûlée"])
def test_text_stays_text(value: str) -> None:
    assert read_params(f"data_prefix={value}") == {"data_prefix": value}


def test_wrong_value_of_a_number_is_passed_to_the_dag() -> None:
    assert read_params("variance_target=high") == {"variance_target": "high"}


@pytest.mark.parametrize("text", ["variance=0.9", "variance_target", "=1", "VARIANCE_TARGET=1", '{"variance": 1}'])
def test_unknown_parameter_is_refused_with_the_list_of_parameters(text: str) -> None:
    with pytest.raises(RunError, match=r"expected NAME=VALUE with a NAME of data_prefix, .*variance_target"):
        read_params(text)


def test_command_refuses_wrong_parameters_before_it_starts_anything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "EndpointProcess", lambda *_, **__: pytest.fail("the endpoint was started"))
    assert command.main(["--lake", str(tmp_path / "lake"), "--state", str(tmp_path / "state"), "--params", "x=1"]) == 2
    assert "make run: PARAMS: 'x=1': expected NAME=VALUE" in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "lake").exists()


@pytest.mark.slow
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
    state = tmp_path / "state"
    with state_lock(state), pytest.raises(RunError, match="another `make run` is working"), state_lock(state):
        pytest.fail("two runs at once")
    with state_lock(state):
        pass  # the lock is released


@pytest.mark.slow
def test_second_run_on_a_lake_is_refused_before_it_replaces_the_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs with state folders of their own, such as of two clones."""
    lake = tmp_path / "lake"
    first, second = tmp_path / "first" / "apple", tmp_path / "second" / "pear"
    for folder in (first, second):
        folder.mkdir(parents=True)
        (folder / "photo.jpg").write_bytes(b"photo")
    (lake / "data" / "apple").mkdir(parents=True)
    os.link(first / "photo.jpg", lake / "data" / "apple" / "photo.jpg")
    argv = ["--lake", str(lake), "--state", str(tmp_path / "state"), "--images", str(second.parent)]
    with lake_lock(f"file://{lake}", tmp_path / "s3"):
        assert command.main(argv) == 2
    assert capsys.readouterr().out == (
        f"make run: another `make run` or `make up` uses the lake {lake}: wait for it, stop it, or set LAKE to another "
        f"folder. It is process {os.getpid()}, {shlex.join(['python', *sys.orig_argv[1:]])}\n"
    )
    assert [path.name for path in (lake / "data").iterdir()] == ["apple"]


@pytest.mark.slow
@pytest.mark.skipif(
    not connector_jars(connector_folder()),
    reason="Spark's S3 connector could not be fetched from Maven Central (make setup STORE=s3 says why)",
)
@pytest.mark.parametrize("first", ["run", "store"])
def test_second_run_on_s3_is_refused_before_it_replaces_the_photos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: str
) -> None:
    """Two state folders whose S3 data are one folder; the first holds it by a run, or by `make store`."""
    data, state = tmp_path / "first" / "s3", tmp_path / "second"
    state.mkdir()
    (state / "s3").symlink_to(data)
    photos = tmp_path / "photos" / "pear"
    photos.mkdir(parents=True)
    (photos / "photo.jpg").write_bytes(b"photo")
    argv = ["--lake", "s3://fruits/lake", "--store", "s3", "--state", str(state), "--images", str(photos.parent)]
    environ = dict(os.environ) | dict.fromkeys(KEYS, "local")
    lock = lake_lock("s3://fruits/lake", data) if first == "run" else contextlib.nullcontext()
    with lock, StoreProcess(data, environment=environ) as store:
        s3 = client(store.url, "local", "local")
        s3.create_bucket(Bucket="fruits")
        s3.put_object(Bucket="fruits", Key="lake/data/apple/photo.jpg", Body=b"photo")
        before = s3.list_objects_v2(Bucket="fruits")["Contents"]
        assert command.main(argv) == 2
        assert s3.list_objects_v2(Bucket="fruits")["Contents"] == before
    refusal = {
        "run": "another `make run` or `make up` uses the lake s3://fruits/lake in {}: wait for it, or stop it. It is ",
        "store": "another S3 store runs on the folder {}; end it first. Its starter is ",
    }[first].format(state / "s3")
    assert f"make run: {refusal}process {os.getpid()}, python " in capsys.readouterr().out


def test_lake_that_cannot_be_written_is_refused_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    lake = tmp_path / "file" / "lake"
    assert command.main(["--lake", str(lake), "--state", str(tmp_path / "state")]) == 2
    assert f"make run: {lake} cannot be written: Not a directory" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_lock_is_released_when_its_process_is_killed(tmp_path: Path) -> None:
    code = f"""
import pathlib, time
from local.airflow.home import state_lock
with state_lock(pathlib.Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError), state_lock(tmp_path):
            pass
        holder.kill()
    with state_lock(tmp_path):
        pass


def await_exit(pids: list[int]) -> list[int]:
    """Wait up to a minute for processes to exit; return those that have not."""
    deadline = time.monotonic() + 60
    left = pids
    while left and time.monotonic() < deadline:
        running = {each.pid for each in psutil.process_iter(["status"]) if each.info["status"] != psutil.STATUS_ZOMBIE}
        left = [pid for pid in left if pid in running]
        time.sleep(0.02)
    return left


@pytest.mark.slow
def test_child_and_its_children_stop_with_the_block(tmp_path: Path) -> None:
    shell = f"sleep 600 & echo $! >> {tmp_path}/pids; echo $$ >> {tmp_path}/pids; echo é; wait"
    with running(["bash", "-c", shell], environ=dict(os.environ), log=tmp_path / "log", cwd=tmp_path):
        while not (tmp_path / "log").read_text(encoding="utf-8"):
            time.sleep(0.02)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert await_exit(pids) == []


@pytest.mark.slow
def test_child_stops_if_the_block_fails(tmp_path: Path) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        running(["sleep", "600"], environ=dict(os.environ), log=tmp_path / "log", cwd=tmp_path) as process,
    ):
        raise KeyboardInterrupt
    assert process.poll() is not None


@pytest.mark.slow
def test_child_has_only_the_given_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    with running(["/usr/bin/env"], environ={"A": "b"}, log=tmp_path / "log", cwd=tmp_path) as process:
        process.wait()
    assert (tmp_path / "log").read_text() == "A=b\n"


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A lake with the files of a published run that the summary reads."""
    (tmp_path / "runs" / SLUG).mkdir(parents=True)
    (tmp_path / "current.json").write_text(json.dumps({"run": SLUG, "state": 3, "images": 1234}))
    put_report(tmp_path, manifest(verified={"warnings": ["the target was not reached"]}))
    return tmp_path


def put_report(lake: Path, record: dict[str, Any]) -> None:
    (lake / "runs" / SLUG / "report.json").write_text(json.dumps(build_report(record)), encoding="utf-8")


def test_summary_has_counts_quality_seconds_places_and_warnings(lake: Path) -> None:
    shown = success_text(Lake(f"file://{lake}"))
    for part in ("images      3", "rejects     1 (1 truncated", "2 explain 90.00% of the variance",
                 "quality     neighbours name the label of ", "featurize",
                 "moments 0.5", f"{lake}/results ", f"{lake}/results_csv/pca_features.csv", "report.html",
                 "WARNING     the target was not reached"):  # fmt: skip
        assert part in shown
    assert "RANDOM" not in shown


def test_summary_counts_what_is_left_out_and_warns_of_labels_that_disappear(lake: Path) -> None:
    counter = LeftOutCounter()
    counter.skip("1.PNG", "banana", at_top=False)
    counter.hidden = 2
    left_out = [counter.record("/photos", "*.jpg")]
    warnings = warn(left_out[0])
    put_report(lake, manifest(featurize=featurize_summary(left_out=left_out), verified={"warnings": warnings}))
    shown = success_text(Lake(f"file://{lake}"))
    for part in (
        "left out    1 file in /photos left out by name, not matching '*.jpg': 1 .png",
        "left out    2 hidden or system files in /photos",
        "WARNING     1 label in /photos without any image: banana. ",
        "image_pattern=all includes 1 of the 1 skipped file",
    ):
        assert part in shown
    put_report(lake, manifest())
    assert "left out" not in success_text(Lake(f"file://{lake}"))


def test_run_with_nothing_to_do_is_one_line_with_the_state_until_a_run_publishes_again(lake: Path) -> None:
    full = success_text(Lake(f"file://{lake}"))
    for slug, state in (
        (SLUG, "success"),
        ("20261123T120000Z-0123abcd", "unchanged"),
        ("20261124T120000Z-0123abcd", "success"),
    ):
        (lake / "reports" / f"run={slug}").mkdir(parents=True)
        (lake / "reports" / f"run={slug}" / "report.json").write_text(json.dumps({"run": slug, "state": state}))
        shown = success_text(Lake(f"file://{lake}"))
        if state == "unchanged":
            assert shown.strip() == (
                f"nothing to do: no photo has changed since state 3 (1234 images, in {lake}/results); no cluster was "
                "created, and full_run=true computes everything again"
            )
        else:
            assert shown == full


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
    ("lake", "store", "message"),
    [
        ("s3://fruits", "folder", "add STORE=s3"),
        ("/data", "s3", r"expected s3://bucket"),
        ("s3://", "s3", "expected"),
        ("s3://fruits/my lake", "s3", "only"),
        *((f"/data/a{character}b", "folder", "Spark misreads paths with") for character in ",?#{}[]*:\t\n"),
    ],
)
def test_lake_of_the_other_store_is_refused(lake: str, store: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        locate_lake(lake, store)


def test_paths_start_from_the_users_folder_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for text, expected in {
        "photos": tmp_path / "photos",
        "../photos": tmp_path / ".." / "photos",
        "~/photos": Path("/home/me/photos"),
        "~nobody-of-this-name/photos": tmp_path / "~nobody-of-this-name" / "photos",
        "/photos": Path("/photos"),
    }.items():
        assert absolute(text, tmp_path) == expected
    assert locate_lake("lake", "folder", tmp_path) == f"file://{tmp_path}/lake"
    assert locate_lake("~/lake", "folder", tmp_path) == "file:///home/me/lake"
