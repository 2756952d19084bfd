"""Faults of steps: a step hangs, fails, or its driver is killed."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import pytest

PROGRESS = 'for n in 0 50 100; do echo "progress featurize: $n/100 images ($n %)"; sleep 0.3; done; echo done'
"""A script that reports progress as a job does."""


@pytest.mark.parametrize(("ignores_term", "code"), [(False, 124), (True, 137)])
def test_a_hanging_step_is_ended_by_the_real_limit_of_its_command(emr: Any, ignores_term: bool, code: int) -> None:
    fault = {"name": "pca", "hangs": True, "limit_seconds": 0.5, "ignores_term": ignores_term}
    emr.set_faults({"steps": [fault]})
    cluster = emr.create()
    argv = ["timeout", "--signal=TERM", "--kill-after=60s", "3h", "true"]
    [step] = emr.add(cluster, emr.step(*argv, name="pca"))
    details = emr.await_step(cluster, step)["FailureDetails"]
    assert "time limit (3h)" in details["Message"]
    controller = (emr.folder(cluster, step) / "controller").read_text()
    assert f"waitProcessCompletion ended with exit code {code}" in controller


def test_a_suspended_step_is_ended_by_its_limit(emr: Any) -> None:
    fault = {"name": "featurize", "hangs": True, "at_percent": 50, "limit_seconds": 1}
    emr.set_faults({"steps": [fault]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step("timeout", "-k", "60s", "3h", "bash", "-c", PROGRESS, name="featurize"))
    details = emr.await_step(cluster, step)["FailureDetails"]
    assert "exit code 124" in details["Message"]
    stdout = (emr.folder(cluster, step) / "stdout").read_text()
    assert "(50 %)" in stdout
    assert "done" not in stdout


@pytest.mark.parametrize(("percent", "seen", "unseen"), [(0, "(0 %)", "(50 %)"), (50, "(50 %)", "(100 %)")])
def test_the_driver_is_killed_at_a_percentage_of_progress(emr: Any, percent: int, seen: str, unseen: str) -> None:
    tag = f"tag-{os.getpid()}-{percent}"
    emr.set_faults({"steps": [{"name": "featurize", "kills": "driver", "at_percent": percent}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step("timeout", "3h", "bash", "-c", f"{PROGRESS} # {tag}", name="featurize"))
    status = emr.await_step(cluster, step)
    assert status["State"] == "FAILED"
    assert "killed" in status["FailureDetails"]["Message"]
    stdout = (emr.folder(cluster, step) / "stdout").read_text()
    assert seen in stdout
    assert unseen not in stdout
    assert emr.tagged(tag) == []


def test_only_the_progress_of_the_named_phase_counts(emr: Any) -> None:
    emr.set_faults({"steps": [{"name": "pca", "kills": "driver", "at_percent": 99, "progress": "pca-scores"}]})
    script = (
        'echo "progress pca-moments: 5/5 images (100 %)"; sleep 0.5; echo "progress pca-scores: 5/5 images (100 %)"'
    )
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash(f"{script}; sleep 60", name="pca"))
    assert emr.await_step(cluster, step)["State"] == "FAILED"
    assert "pca-scores" in (emr.folder(cluster, step) / "stdout").read_text()


def test_a_kill_without_delay_waits_for_the_start_of_the_command(emr: Any) -> None:
    emr.set_faults({"steps": [{"name": "featurize", "kills": "driver"}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step("timeout", "3h", "sleep", "600", name="featurize"))
    assert emr.await_step(cluster, step)["State"] == "FAILED"


def test_a_step_fails_with_given_outputs_and_a_containers_log(emr: Any) -> None:
    fault = {"name": "step", "exit_code": 52, "stdout": "to stdout", "stderr": "", "container_stderr": "OutOfMemory"}
    emr.set_faults({"steps": [fault]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("true"))
    assert emr.await_step(cluster, step)["State"] == "FAILED"
    assert gzip.decompress(emr.delivered(cluster, "steps", step, "stdout.gz").read_bytes()) == b"to stdout\n"
    [log] = emr.delivered(cluster, "containers").glob("application_*_0001/container_*_0001_01_000003/stderr.gz")
    assert gzip.decompress(log.read_bytes()) == b"OutOfMemory"


def test_a_failed_step_did_not_run(emr: Any, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    emr.set_faults({"steps": [{"name": "featurize*", "exit_code": 3, "stderr": "no space left on device"}]})
    cluster = emr.create()
    failing, next_one = emr.add(cluster, *[emr.bash(f'echo x >> "{ran}"', name="featurize 1")] * 2)
    status = emr.await_step(cluster, failing)
    assert status["State"] == "FAILED"
    assert status["FailureDetails"]["Message"] == "no space left on device"
    assert emr.await_step(cluster, next_one)["State"] == "COMPLETED"
    assert ran.read_text() == "x\n", "only the second one ran"


def test_a_step_hangs_until_it_is_cancelled(emr: Any) -> None:
    emr.set_faults({"steps": [{"name": "pca", "hangs": True}]})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("true", name="pca"))
    emr.await_output(cluster, step, "sleep infinity", log="controller")
    assert emr.status(cluster, step)["State"] == "RUNNING"
    emr.client.cancel_steps(ClusterId=cluster, StepIds=[step])
    assert emr.await_step(cluster, step)["State"] == "CANCELLED"
