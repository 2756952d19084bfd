"""The endpoint's journal: what is in it is found again, whatever cut it short; damage is named, never passed over."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.emr.clusters.journal import Journal, JournalError
from local.emr.clusters.records import describe_cluster, difference, merge
from local.emr.clusters.registry import Registry
from local.emr.faults.faults import Faults
from local.emr.options import Options
from local.emr.spark.steps import Outcome, StepRun

REQUEST: dict[str, Any] = {
    "Name": "früits 100%",
    "ReleaseLabel": "emr-spark-8.1.0",
    "ServiceRole": "service",
    "JobFlowRole": "nodes",
    "Instances": {"MasterInstanceType": "m6g.xlarge", "InstanceCount": 1, "KeepJobFlowAliveWhenNoSteps": True},
    "AutoTerminationPolicy": {"IdleTimeout": 900},
    "Tags": [{"Key": "project", "Value": "fruits"}],
}
STEP = {"Name": "pca", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}, "ActionOnFailure": "CONTINUE"}


def registry_in(folder: Path, journal: Journal) -> Registry:
    """A registry whose clusters start for so long that no step of theirs ever runs."""
    return Registry(Options(state_dir=folder, python=sys.executable, boot_seconds=10**6), Faults(), journal)


def descriptions(registry: Registry) -> dict[str, dict[str, Any]]:
    return {cluster.id: describe_cluster(cluster) for cluster in registry.all("eu-west-3")}


@pytest.fixture
def written(tmp_path: Path) -> tuple[bytes, dict[str, dict[str, Any]]]:
    """The bytes of a journal of two clusters with steps, one ended and one starting, and what was in memory."""
    with Journal(tmp_path / "written") as journal:
        registry = registry_in(tmp_path, journal)
        ended, starting = [registry.run(REQUEST, region="eu-west-3", account="1") for _ in range(2)]
        ended.add_steps([STEP, STEP])
        starting.add_steps([STEP])
        starting.tag({"clé": "été"}, remove=["project"])
        ended.configure(auto_termination=None)
        ended.terminate()
        ended.join()
        registry.close()
        assert (ended.state, starting.state) == ("TERMINATED", "STARTING")
        return (tmp_path / "written").read_bytes(), descriptions(registry)


def test_what_was_kept_is_there_again(written: Any, tmp_path: Path) -> None:
    data, expected = written
    (tmp_path / "journal").write_bytes(data)
    with Journal(tmp_path / "journal") as journal:
        registry = registry_in(tmp_path, journal)
        assert descriptions(registry) == expected
        assert list(descriptions(registry)) == list(expected), "in the same order"
        assert (tmp_path / "journal").read_bytes() == data, "reading writes nothing"


def test_a_journal_cut_at_any_byte_loads_without_what_was_not_finished(
    written: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # thousands of them would take most of the time
    data, _ = written
    path = tmp_path / "journal"
    path.write_bytes(data)
    with Journal(path) as journal:
        every = journal.records
    assert len(every) >= 6
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        caplog.clear()
        whole = max(0, data.count(b"\n", 0, size) - 1)
        with Journal(path) as journal:
            assert journal.records == every[:whole], f"cut at byte {size}"
            registry_in(tmp_path, journal)
            torn = size > 0 and data[size - 1 : size] != b"\n"
            assert ("was never finished" in caplog.text) == torn, f"cut at byte {size}"
            if torn or not size:
                journal.append({"cluster": "next"})
        if torn:
            with Journal(path) as journal:
                assert journal.records == [*every[:whole], {"cluster": "next"}], f"appended after a cut at byte {size}"


def test_a_step_is_on_record_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would run twice when the endpoint is killed in between."""
    seen = []

    def execute(run: StepRun) -> Outcome:
        seen.append((tmp_path / "journal").read_text())
        return Outcome("COMPLETED")

    monkeypatch.setattr(StepRun, "execute", execute)
    with Journal(tmp_path / "journal") as journal:
        registry = Registry(Options(state_dir=tmp_path, python=sys.executable), Faults(), journal)
        instances = REQUEST["Instances"] | {"KeepJobFlowAliveWhenNoSteps": False}
        cluster = registry.run(REQUEST | {"Instances": instances, "Steps": [STEP]}, region="eu-west-3", account="1")
        cluster.join()
        registry.close()
    assert [f'{{"{cluster.steps[0].id}":{{"state":"RUNNING"' in text for text in seen] == [True]


def test_lost_instances_are_lost_to_the_next_endpoint_too(tmp_path: Path) -> None:
    request = REQUEST | {"Instances": REQUEST["Instances"] | {"InstanceCount": 3}}
    with Journal(tmp_path / "journal") as journal:
        registry = registry_in(tmp_path, journal)
        cluster = registry.run(request, region="eu-west-3", account="1")
        cluster.lose_instance()
        lost = dict(cluster.lost_instances)
        cluster.lose_instance()
        cluster.lose_instance()  # there are two workers, and the primary node is not among them
        registry.close()
        assert [len(lost), len(cluster.lost_instances)] == [1, 2]
        assert lost.items() <= cluster.lost_instances.items()
    with Journal(tmp_path / "journal") as journal:
        again = registry_in(tmp_path, journal).get(cluster.id, "eu-west-3")
        assert again.lost_instances == cluster.lost_instances


@pytest.mark.parametrize(("idle_minutes", "state"), [(60, "TERMINATED"), (1, "WAITING")])
def test_time_without_an_endpoint_is_idle_time(tmp_path: Path, idle_minutes: int, state: str) -> None:
    options = Options(state_dir=tmp_path, python=sys.executable)
    with Journal(tmp_path / "journal") as journal:
        registry = Registry(options, Faults(), journal)
        cluster_id = registry.run(REQUEST, region="eu-west-3", account="1").id
        registry.close()
        since = datetime.now(UTC) - timedelta(minutes=idle_minutes)
        ready = {"state": "WAITING", "ready": since.isoformat(), "idle_since": since.isoformat()}
        journal.append({"cluster": cluster_id, **ready})
    with Journal(tmp_path / "journal") as journal:
        registry = Registry(options, Faults(), journal)
        registry.resume()
        cluster = registry.get(cluster_id, "eu-west-3")
        if state == "TERMINATED":
            cluster.join()
            assert "idle" in cluster.reason[1]
        registry.close()
        assert (cluster.state, cluster.ready) == (state, since)


def test_clusters_go_on_from_every_record(written: Any, tmp_path: Path) -> None:
    data, _ = written
    lines = data.splitlines(keepends=True)
    for number in range(1, len(lines) + 1):
        path = tmp_path / f"journal {number}"
        path.write_bytes(b"".join(lines[:number]))
        with Journal(path) as journal:
            registry = registry_in(tmp_path, journal)
            registry.resume()
            for cluster in registry.all("eu-west-3"):
                cluster.terminate()
                cluster.join()
                assert (cluster.state, cluster.ended is None) == ("TERMINATED", False)
                assert {step.state for step in cluster.steps} <= {"CANCELLED"}
            registry.close()
            expected = descriptions(registry)
        with Journal(path) as journal:
            assert descriptions(registry_in(tmp_path, journal)) == expected


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_changed_byte_is_named_with_its_line_and_the_file_stays(written: Any, tmp_path: Path, number: int) -> None:
    lines = written[0].splitlines(keepends=True)
    for place in (0, 12, len(lines[number - 1]) - 2):
        line = bytearray(lines[number - 1])
        line[place] ^= 1
        damaged = b"".join([*lines[: number - 1], bytes(line), *lines[number:]])
        path = tmp_path / "journal"
        path.write_bytes(damaged)
        with pytest.raises(JournalError, match=rf"journal is damaged in line {number}: .* move the file away"):
            Journal(path)
        assert path.read_bytes() == damaged


def line(text: bytes) -> bytes:
    return b"%08x %s\n" % (zlib.crc32(text), text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (line(b'{"journal":"local EMR endpoint","version":99}'), "is of version 99, this endpoint reads version 1"),
        (line(b'{"journal":"local EMR endpoint"}'), "is of version None"),
        (line(b'{"journal":"another"}'), "line 1: this is no journal of an endpoint"),
        (line(b"[]"), "line 1: it is not a JSON object"),
        (line(b"{"), "line 1: it is not JSON"),
        (b"notes of mine", "line 1: this is no journal of an endpoint"),
        (b"notes of mine\n", "line 1: its checksum does not fit"),
        (b"\n", "line 1"),
    ],
)
def test_what_this_version_did_not_write_is_refused_and_stays(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=message) as caught:
        Journal(path)
    assert "move the file away" in str(caught.value)
    assert path.read_bytes() == content


def test_a_cluster_whose_records_are_not_complete_is_named(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        journal.append({"cluster": "j-1", "state": "WAITING"})
    with Journal(tmp_path / "journal") as journal, pytest.raises(JournalError, match=r"cluster j-1.*'request'"):
        registry_in(tmp_path, journal)


def test_a_journal_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(tmp_path / "journal") as journal:
        monkeypatch.setattr(os, "write", write)
        with pytest.raises(
            JournalError, match=r"cannot be written to .*journal \(No space left on device\): make room"
        ):
            journal.append({"cluster": "j-1"})


def test_a_record_that_is_written_in_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    with Journal(tmp_path / "journal") as journal:
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
        journal.append({"cluster": "j-1", "name": "é" * 50})
    with Journal(tmp_path / "journal") as journal:
        assert journal.records == [{"cluster": "j-1", "name": "é" * 50}]


def test_a_difference_merges_into_what_it_was_taken_from(written: Any) -> None:
    old, new = written[1].values()
    change = difference(old, new)
    assert merge(old, change) == new | {"steps": old["steps"] | new["steps"]}
    assert difference(old, old) == {}
    step_id, step = next(iter(old["steps"].items()))
    changed = old | {"steps": old["steps"] | {step_id: step | {"state": "FAILED"}}}
    assert difference(old, changed) == {"steps": {step_id: {"state": "FAILED"}}}


def test_a_change_of_nothing_is_not_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    with Journal(tmp_path / "journal") as journal:
        registry = registry_in(tmp_path, journal)
        cluster = registry.run(REQUEST, region="eu-west-3", account="1")
        size = (tmp_path / "journal").stat().st_size
        cluster.configure(keep_alive=True)
        cluster.tag({"project": "fruits"})
        assert (tmp_path / "journal").stat().st_size == size
        registry.close()
    first = json.loads((tmp_path / "journal").read_bytes().splitlines()[1].partition(b" ")[2])
    assert first["request"] == REQUEST
