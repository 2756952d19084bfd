"""Faults of logs: their delivery is late or refused."""

from __future__ import annotations

import gzip
from typing import Any


def test_logs_are_delivered_late(emr: Any) -> None:
    emr.set_faults({"logs": [{"delay_seconds": 1800}]})  # 3 s on this clock
    cluster = emr.create()
    [step] = emr.add(cluster, emr.bash("echo out"))
    ended = emr.await_step(cluster, step)["Timeline"]["EndDateTime"].timestamp()
    log = emr.delivered(cluster, "steps", step, "stdout.gz")
    emr.await_true(log.exists, "the log is delivered")
    # The times of files, since a busy machine may take 3 s to look at the folder.
    assert log.stat().st_mtime - ended > 2.5
    assert gzip.decompress(log.read_bytes()) == b"out\n"


def test_refused_logs_are_not_delivered_and_the_step_ends_as_usual(emr: Any) -> None:
    emr.set_faults({"logs": [{"refused": True, "times": 2}]})
    cluster = emr.create()
    refused, also, other = emr.add(cluster, emr.bash("exit 3"), emr.bash("true"), emr.bash("true"))
    assert emr.await_step(cluster, refused)["State"] == "FAILED"
    assert emr.await_step(cluster, other)["State"] == "COMPLETED"
    emr.await_true(emr.delivered(cluster, "steps", other, "controller.gz").exists, "the third is delivered")
    assert sorted(path.name for path in emr.delivered(cluster, "steps").iterdir()) == [other]
    assert emr.status(cluster, also)["State"] == "COMPLETED"
