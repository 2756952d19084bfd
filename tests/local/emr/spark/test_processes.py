"""No process of a step outlives the step, its cluster or the endpoint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.emr.process import ROOT

SCATTERED = """\
import os, sys, time
tag, ready = sys.argv[1:]
# New process groups and sessions, as pyspark's daemon and timeout create them, and a parent that exits.
for escape in (lambda: os.setpgid(0, 0), os.setsid, lambda: os.fork() and os._exit(0)):
    if os.fork() == 0:
        escape()
        open(f"{ready}.{os.getpid()}", "w").close()
        time.sleep(600)
time.sleep(600)
"""


@pytest.fixture
def scattered_step(tmp_path: Path) -> Any:
    """The command of a step whose processes leave its session, their tag, and whether all of them run."""
    script = tmp_path / "scattered.py"
    script.write_text(SCATTERED)
    tag, ready = f"tag-{uuid.uuid4().hex}", tmp_path / "ready"
    argv = ["timeout", "1h", "python3", str(script), tag, str(ready)]
    return argv, tag, lambda: len(list(tmp_path.glob("ready.*"))) >= 3


@pytest.mark.parametrize("way", ["terminate", "cancel", "interrupt"])
def test_scattered_processes_end_with_their_step(emr: Any, scattered_step: Any, way: str) -> None:
    argv, tag, all_run = scattered_step
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step(*argv))
    emr.await_true(all_run, "all processes of the step run")
    assert len(emr.tagged(tag)) >= 5
    if way == "terminate":
        emr.client.terminate_job_flows(JobFlowIds=[cluster])
        assert emr.await_cluster(cluster, "TERMINATED")["StateChangeReason"]["Code"] == "USER_REQUEST"
    else:
        option = "TERMINATE_PROCESS" if way == "cancel" else "SEND_INTERRUPT"
        emr.client.cancel_steps(ClusterId=cluster, StepIds=[step], StepCancellationOption=option)
    status = emr.await_step(cluster, step)
    assert status["State"] == "CANCELLED"
    assert emr.tagged(tag) == [], "an ended step has no process"


def test_a_background_process_ends_with_its_step(emr: Any) -> None:
    tag = f"tag-{uuid.uuid4().hex}"
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash(f"setsid bash -c 'sleep 600; : {tag}' & exit 0"))
    assert emr.await_step(cluster, step)["State"] == "COMPLETED"
    assert emr.tagged(tag) == []


def test_a_step_whose_guard_is_killed_fails_and_leaves_no_process(emr: Any, scattered_step: Any) -> None:
    argv, tag, all_run = scattered_step
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step(*argv))
    emr.await_true(all_run, "all processes of the step run")
    [guard] = [process for process in emr.tagged(tag) if "guard.py" in " ".join(process.cmdline())]
    guard.kill()
    assert "guarded the command was killed" in emr.await_step(cluster, step)["FailureDetails"]["Message"]
    assert emr.tagged(tag) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_endpoint_ends_its_steps_and_exits_with_0(
    start_endpoint: Any, scattered_step: Any, number: int
) -> None:
    argv, tag, all_run = scattered_step
    process, emr = start_endpoint()
    emr.add(emr.create(), emr.step(*argv))
    emr.create()
    emr.await_true(all_run, "all processes of the step run")
    os.kill(process.pid, number)
    assert process.stop() == 0
    assert emr.tagged(tag) == []
    assert not (emr.state_dir / "endpoint.json").exists()


def test_killing_the_endpoint_ends_its_steps(start_endpoint: Any, scattered_step: Any) -> None:
    argv, tag, all_run = scattered_step
    process, emr = start_endpoint()
    emr.add(emr.create(), emr.step(*argv))
    emr.await_true(all_run, "all processes of the step run")
    os.kill(process.pid, signal.SIGKILL)
    emr.await_true(lambda: not emr.tagged(tag), "no process of the step is left")
    assert process.stop() == -signal.SIGKILL


def test_the_endpoint_ends_when_its_parent_is_killed(emr: Any, tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from local.emr.process import EndpointProcess\n"
        "process = EndpointProcess(pathlib.Path(sys.argv[1]))\n"
        "print(process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        endpoint = int(parent.stdout.readline())
        assert psutil.pid_exists(endpoint)
        parent.kill()
    emr.await_true(lambda: not psutil.pid_exists(endpoint), "the endpoint is gone")
