"""The journal of the endpoint: the next endpoint reads what was saved, and refuses a damaged file."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from local.emr.clusters.journal import Journal, JournalError
from local.emr.clusters.records import describe_cluster
from local.emr.clusters.registry import Registry
from local.emr.faults.faults import Faults
from local.emr.options import Options
from local.emr.process import ROOT
from local.emr.spark.step_outcome import Outcome
from local.emr.spark.step_run import StepRun

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


BOOT_SECONDS = 10**6
"""The clusters of these tests start for so long that they never run a step."""

# Each thread saves a cluster again and again, and prints each description that save() has acknowledged.
WRITER = """
import sys, threading
from pathlib import Path
from local.emr.clusters.journal import Journal

journal = Journal(Path(sys.argv[1]))

def write(thread):
    for number in range(10**9):
        journal.save(f"j-{thread}", {"number": number})
        sys.stdout.write(f"{thread} {number}\\n")
        sys.stdout.flush()

for thread in range(4):
    threading.Thread(target=write, args=(thread,)).start()
"""


@contextmanager
def open_registry(path: Path, boot_seconds: float = BOOT_SECONDS) -> Iterator[Registry]:
    options = Options(state_dir=path.parent, python=sys.executable, boot_seconds=boot_seconds)
    with closing(Journal(path)) as journal:
        registry = Registry(options, Faults(), journal)
        yield registry
        registry.close()


def descriptions(registry: Registry) -> dict[str, dict[str, Any]]:
    return {cluster.id: describe_cluster(cluster) for cluster in registry.all("eu-west-3")}


def saved_clusters(path: Path) -> dict[str, dict[str, Any]]:
    with closing(Journal(path)) as journal:
        return journal.clusters


Saves = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Saves:
    """All calls of ``Journal.save`` for two clusters with steps, one terminated and one starting, in ``journal``."""
    calls: Saves = []
    save = Journal.save

    def record_and_save(self: Journal, cluster_id: str, description: dict[str, Any]) -> None:
        calls.append((cluster_id, description))
        save(self, cluster_id, description)

    with monkeypatch.context() as patch, open_registry(tmp_path / "journal") as registry:
        patch.setattr(Journal, "save", record_and_save)
        ended, starting = [registry.run(REQUEST, region="eu-west-3", account="1") for _ in range(2)]
        ended.add_steps([STEP, STEP])
        starting.add_steps([STEP])
        starting.tag({"clé": "été"}, remove=["project"])
        starting.configure(keep_alive=True)  # changes nothing
        ended.configure(auto_termination=None)
        ended.terminate()
        ended.join()
        assert (ended.state, starting.state) == ("TERMINATED", "STARTING")
    return calls


def test_the_next_endpoint_has_the_same_clusters_in_the_same_order(saves: Saves, tmp_path: Path) -> None:
    before = (tmp_path / "journal").read_bytes()
    with open_registry(tmp_path / "journal") as registry:
        found = descriptions(registry)
    assert found == dict(saves)
    assert list(found) == list(dict(saves))[::-1], "the newest first"
    assert (tmp_path / "journal").read_bytes() == before, "reading writes nothing"


def test_only_changes_are_saved(saves: Saves) -> None:
    for cluster_id in dict(saves):
        own = [description for saved_id, description in saves if saved_id == cluster_id]
        assert all(old != new for old, new in pairwise(own))


@pytest.mark.slow
def test_clusters_continue_from_every_save(saves: Saves, tmp_path: Path) -> None:
    assert len(saves) >= 6
    for count in range(1, len(saves) + 1):
        path = tmp_path / f"journal {count}"
        with closing(Journal(path)) as journal:
            for cluster_id, description in saves[:count]:
                journal.save(cluster_id, description)
        with open_registry(path) as registry:
            registry.resume()
            for cluster in registry.all("eu-west-3"):
                cluster.terminate()
                cluster.join()
                assert (cluster.state, cluster.ended is None) == ("TERMINATED", False)
                assert {step.state for step in cluster.steps} <= {"CANCELLED"}
            expected = descriptions(registry)
        assert saved_clusters(path) == expected


@pytest.mark.slow
def test_sigkill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "journal")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(50)]
        writer.kill()
        lines += writer.stdout.readlines()
    assert writer.returncode == -signal.SIGKILL
    acknowledged = {f"j-{thread}": int(number) for thread, number in (line.split() for line in lines)}
    found = {
        cluster_id: description["number"] for cluster_id, description in saved_clusters(tmp_path / "journal").items()
    }
    assert found.keys() >= acknowledged.keys()
    assert all(number <= found[cluster_id] <= number + 1 for cluster_id, number in acknowledged.items())


def test_a_step_is_saved_as_running_before_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would run twice if the endpoint were killed in between."""
    seen = []

    def execute(run: StepRun) -> Outcome:
        [description] = saved_clusters(tmp_path / "journal").values()
        seen.extend(step["state"] for step in description["steps"].values())
        return Outcome("COMPLETED")

    monkeypatch.setattr(StepRun, "execute", execute)
    instances = REQUEST["Instances"] | {"KeepJobFlowAliveWhenNoSteps": False}
    with open_registry(tmp_path / "journal", boot_seconds=0) as registry:
        registry.run(REQUEST | {"Instances": instances, "Steps": [STEP]}, region="eu-west-3", account="1").join()
    assert seen == ["RUNNING"]


def test_lost_instances_are_lost_for_the_next_endpoint_too(tmp_path: Path) -> None:
    request = REQUEST | {"Instances": REQUEST["Instances"] | {"InstanceCount": 3}}
    with open_registry(tmp_path / "journal") as registry:
        cluster = registry.run(request, region="eu-west-3", account="1")
        cluster.lose_instance()
        lost = dict(cluster.lost_instances)
        cluster.lose_instance()
        cluster.lose_instance()  # there are two workers, and the primary node is not among them
        assert [len(lost), len(cluster.lost_instances)] == [1, 2]
        assert lost.items() <= cluster.lost_instances.items()
    with open_registry(tmp_path / "journal") as registry:
        assert registry.get(cluster.id, "eu-west-3").lost_instances == cluster.lost_instances


@pytest.mark.parametrize(("idle_minutes", "state"), [(60, "TERMINATED"), (1, "WAITING")])
def test_time_without_an_endpoint_is_idle_time(tmp_path: Path, idle_minutes: int, state: str) -> None:
    path = tmp_path / "journal"
    with open_registry(path) as registry:
        registry.run(REQUEST, region="eu-west-3", account="1")
    since = datetime.now(UTC) - timedelta(minutes=idle_minutes)
    waiting = {"state": "WAITING", "ready": since.isoformat(), "idle_since": since.isoformat()}
    with closing(Journal(path)) as journal:
        [(cluster_id, description)] = journal.clusters.items()
        journal.save(cluster_id, description | waiting)
    with open_registry(path) as registry:
        registry.resume()
        cluster = registry.get(cluster_id, "eu-west-3")
        if state == "TERMINATED":
            cluster.join()
            assert "idle" in cluster.reason[1]
    assert (cluster.state, cluster.ready) == (state, since)


@pytest.mark.parametrize("damage", ["truncated", "garbled", "text", "description", "version"])
def test_a_damaged_file_is_refused_and_stays(saves: Saves, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal"
    data = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "garbled":
        path.write_bytes(data[:5000] + bytes(1000) + data[6000:])
    elif damage == "text":
        path.write_text('{"clusters": []}\n')
    else:
        change = {"description": "UPDATE clusters SET description = '{'", "version": "PRAGMA user_version = 99"}
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(change[damage])
    damaged = path.read_bytes()
    with pytest.raises(JournalError, match=rf"cannot be read from {path} .*move the file away") as refused:
        Journal(path)
    assert ("its version is 99" in str(refused.value)) == (damage == "version")
    assert path.read_bytes() == damaged


def test_a_file_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"cannot be read from .*no folder/journal"):
        Journal(tmp_path / "no folder" / "journal")


def test_a_cluster_with_an_incomplete_description_is_named(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "journal")) as journal:
        journal.save("j-1", {"state": "WAITING"})
    with pytest.raises(JournalError, match=r"cluster j-1.*'request'"), open_registry(tmp_path / "journal"):
        pass
