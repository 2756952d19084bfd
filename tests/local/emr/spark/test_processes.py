"""Nothing that a step started outlives it, its cluster or the endpoint."""

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

ESCAPEE = """\
import os, sys, time
tag, ready = sys.argv[1:]
# What pyspark's daemon and timeout do, and worse: groups and sessions of one's own, and a parent that goes away.
for escape in (lambda: os.setpgid(0, 0), os.setsid, lambda: os.fork() and os._exit(0)):
    if os.fork() == 0:
        escape()
        open(f"{ready}.{os.getpid()}", "w").close()
        time.sleep(600)
time.sleep(600)
"""


@pytest.fixture
def family(tmp_path: Path) -> Any:
    """The argv of a step whose processes scatter, its tag, and a function that tells whether all of them run."""
    script = tmp_path / "escapee.py"
    script.write_text(ESCAPEE)
    tag, ready = f"tag-{uuid.uuid4().hex}", tmp_path / "ready"
    argv = ["timeout", "1h", "python3", str(script), tag, str(ready)]
    return argv, tag, lambda: len(list(tmp_path.glob("ready.*"))) >= 3


@pytest.mark.parametrize("way", ["terminate", "cancel", "interrupt"])
def test_a_scattered_family_ends_with_its_step(emr: Any, family: Any, way: str) -> None:
    argv, tag, scattered = family
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step(*argv))
    emr.await_true(scattered, "the family runs")
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


def test_a_family_that_is_left_behind_ends_with_its_step(emr: Any) -> None:
    tag = f"tag-{uuid.uuid4().hex}"
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash(f"setsid bash -c 'sleep 600; : {tag}' & exit 0"))
    assert emr.await_step(cluster, step)["State"] == "COMPLETED"
    assert emr.tagged(tag) == []


def test_a_step_whose_guard_is_killed_fails_and_leaves_nothing(emr: Any, family: Any) -> None:
    argv, tag, scattered = family
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step(*argv))
    emr.await_true(scattered, "the family runs")
    [guard] = [process for process in emr.tagged(tag) if "guard.py" in " ".join(process.cmdline())]
    guard.kill()
    assert "was lost" in emr.await_step(cluster, step)["FailureDetails"]["Message"]
    assert emr.tagged(tag) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_the_endpoint_ends_its_steps_and_exits_with_0(start_endpoint: Any, family: Any, number: int) -> None:
    argv, tag, scattered = family
    process, emr = start_endpoint()
    emr.add(emr.create(), emr.step(*argv))
    emr.create()
    emr.await_true(scattered, "the family runs")
    os.kill(process.pid, number)
    assert process.stop() == 0
    assert emr.tagged(tag) == []
    assert not (emr.state_dir / "endpoint.json").exists()


def test_killing_the_endpoint_ends_its_steps(start_endpoint: Any, family: Any) -> None:
    argv, tag, scattered = family
    process, emr = start_endpoint()
    emr.add(emr.create(), emr.step(*argv))
    emr.await_true(scattered, "the family runs")
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
