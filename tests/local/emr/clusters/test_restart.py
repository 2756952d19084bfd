"""An endpoint that is stopped or killed, and restarted: clusters and steps are the same, running steps have failed."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from local.emr.clusters.journal import Journal
from local.emr.clusters.registry import STATE_NOT_SAVED
from local.emr.process import ROOT, EndpointProcess
from local.emr.server import JOURNAL_FILE, OLD_JOURNAL_FILE

# Processes in other sessions and groups, and one without a parent, as pyspark's daemon and timeout leave them.
SCATTER = 'setsid sleep 600 & (sleep 600 & exec sleep 600) & echo scattered; sleep 600; : "$0"'
pytestmark = pytest.mark.slow

CLUSTER_FIELDS = ("Id", "Name", "ClusterArn", "Tags", "Status")


@dataclass
class Restart:
    """The answers of an endpoint before it stopped, and a client of the next endpoint with the same state directory.

    Clusters by name: ``ended`` has a completed, a failed and a cancelled step; ``running`` a step that runs and one
    that waits; ``cancelling`` a step that is being cancelled; ``waiting`` a completed one; ``idle`` has an idle
    timeout of an hour.
    """

    emr: Any
    clusters: dict[str, str]
    steps: dict[str, list[str]]
    before: dict[str, Any]
    left: list[psutil.Process]


def answers(emr: Any, cluster: str) -> dict[str, Any]:
    """Return all answers of the endpoint about a cluster."""
    ask, name = emr.client, {"ClusterId": cluster}
    return {
        "cluster": emr.cluster(cluster),
        "steps": ask.list_steps(**name)["Steps"],
        "each step": [ask.describe_step(**name, StepId=step["Id"])["Step"] for step in ask.list_steps(**name)["Steps"]],
        "instances": ask.list_instances(**name)["Instances"],
        "groups": ask.list_instance_groups(**name)["InstanceGroups"],
        "bootstrap": ask.list_bootstrap_actions(**name)["BootstrapActions"],
        "scaling": ask.get_managed_scaling_policy(**name).get("ManagedScalingPolicy"),
        "termination": ask.get_auto_termination_policy(**name).get("AutoTerminationPolicy"),
        "summary": [item for item in ask.list_clusters()["Clusters"] if item["Id"] == cluster],
    }


def populate(emr: Any, tag: str) -> tuple[dict[str, str], dict[str, list[str]]]:
    clusters = {name: emr.create(Name=name) for name in ("ended", "running", "cancelling", "waiting")}
    clusters["idle"] = emr.create(Name="idle", AutoTerminationPolicy={"IdleTimeout": 3600})
    emr.client.add_tags(
        ResourceId=clusters["ended"], Tags=[{"Key": "clé 1", "Value": "été"}, {"Key": "b", "Value": ""}]
    )
    emr.client.remove_tags(ResourceId=clusters["ended"], TagKeys=["b"])
    scaling = {"UnitType": "Instances", "MinimumCapacityUnits": 1, "MaximumCapacityUnits": 4}
    emr.client.put_managed_scaling_policy(ClusterId=clusters["ended"], ManagedScalingPolicy={"ComputeLimits": scaling})
    ignores_term = emr.bash(f"trap '' TERM; echo started; while true; do sleep 1; done; : {tag}")
    steps = {
        "ended": emr.add(clusters["ended"], emr.bash("true"), emr.bash("echo brøken >&2; exit 3"), emr.bash("sleep 9")),
        "running": emr.add(clusters["running"], emr.step("bash", "-c", SCATTER, tag), emr.bash("true")),
        "cancelling": emr.add(clusters["cancelling"], ignores_term),
        "waiting": emr.add(clusters["waiting"], emr.bash("echo done")),
    }
    emr.await_step(clusters["ended"], steps["ended"][2], "RUNNING")
    emr.client.terminate_job_flows(JobFlowIds=[clusters["ended"]])
    emr.await_cluster(clusters["ended"], "TERMINATED")
    emr.await_output(clusters["running"], steps["running"][0], "scattered")
    emr.await_output(clusters["cancelling"], steps["cancelling"][0], "started")
    emr.client.cancel_steps(ClusterId=clusters["cancelling"], StepIds=steps["cancelling"])
    emr.await_step(clusters["waiting"], steps["waiting"][0], "COMPLETED")
    emr.await_cluster(clusters["waiting"], "WAITING")
    emr.await_cluster(clusters["idle"], "WAITING")
    return clusters, steps


def restart(number: signal.Signals, root: Path, client: Any) -> Iterator[Restart]:
    tag = f"tag-{uuid.uuid4().hex}"
    with EndpointProcess(root / "state", ["--interrupt-grace", "600"]) as first:
        emr = client(first.url, root / "state", root / "logs")
        clusters, steps = populate(emr, tag)
        before = {name: answers(emr, cluster) for name, cluster in clusters.items()}
        processes = [member for process in emr.tagged(tag) for member in (process, *process.children(recursive=True))]
        assert len(processes) >= 6
        end(first, number, emr.tagged(tag))
    # An hour of idleness takes a tenth of a second from now on.
    with EndpointProcess(root / "state", ["--clock-rate", "36000"]) as second:
        yield Restart(client(second.url, root / "state", root / "logs"), clusters, steps, before, living(processes))


def end(endpoint: EndpointProcess, number: signal.Signals, tagged: list[psutil.Process]) -> None:
    """Stop the endpoint; or kill it after one of its two guards, so that the processes of that step keep running."""
    if number == signal.SIGTERM:
        assert endpoint.stop() == 0
        return
    [guard] = [process for process in tagged if is_guard_of_the_scattered(process)]
    orphans = guard.children(recursive=True)
    os.kill(endpoint.pid, signal.SIGSTOP)  # it must not see that
    guard.kill()
    os.kill(endpoint.pid, signal.SIGKILL)
    assert endpoint.stop() == -signal.SIGKILL
    assert len(orphans) >= 4
    assert living(orphans) == orphans


def is_guard_of_the_scattered(process: psutil.Process) -> bool:
    words = process.cmdline()
    return SCATTER in words and any(word.endswith("guard.py") for word in words)


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run."""
    found = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, emr_client: Any) -> Iterator[Restart]:
    yield from restart(signal.SIGKILL, tmp_path_factory.mktemp("killed é"), emr_client)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, emr_client: Any) -> Iterator[Restart]:
    yield from restart(signal.SIGTERM, tmp_path_factory.mktemp("stopped"), emr_client)


@pytest.fixture(params=["killed", "stopped"])
def restarted(request: pytest.FixtureRequest) -> Restart:
    value: Restart = request.getfixturevalue(request.param)
    return value


def test_an_ended_cluster_is_described_as_before(restarted: Restart) -> None:
    assert answers(restarted.emr, restarted.clusters["ended"]) == restarted.before["ended"]
    states = [step["Status"]["State"] for step in restarted.before["ended"]["steps"]]
    assert states == ["CANCELLED", "FAILED", "COMPLETED"], "the newest first"
    assert restarted.before["ended"]["steps"][1]["Status"]["FailureDetails"]["Message"] == "brøken"
    assert {"Key": "clé 1", "Value": "été"} in restarted.before["ended"]["cluster"]["Tags"]


def test_all_clusters_are_listed_in_the_same_order(restarted: Restart) -> None:
    listed = [cluster["Name"] for cluster in restarted.emr.client.list_clusters()["Clusters"]]
    ours = [name for name in listed if name in restarted.clusters]
    assert ours == ["idle", "waiting", "cancelling", "running", "ended"]


def test_a_step_that_ran_has_failed_with_a_reason_and_its_log(restarted: Restart) -> None:
    emr, cluster, [ran, _] = restarted.emr, restarted.clusters["running"], restarted.steps["running"]
    status = emr.status(cluster, ran)
    assert status["State"] == "FAILED"
    details = status["FailureDetails"]
    assert details["Reason"] == "The master node was lost."
    assert "endpoint was stopped or restarted while the step ran" in details["Message"]
    earlier = restarted.before["running"]["steps"][1]["Status"]["Timeline"]
    assert status["Timeline"] | earlier == status["Timeline"], "its start is the same"
    assert status["Timeline"]["EndDateTime"] >= earlier["StartDateTime"]
    emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")
    folder = emr.log_dir / cluster / "steps" / ran
    assert details["LogFile"] == f"file://{folder}/stderr.gz"
    assert gzip.decompress((folder / "stdout.gz").read_bytes()) == b"scattered\n"
    assert (folder / "stderr.gz").exists()


def test_a_cluster_with_a_running_step_has_terminated_and_cancelled_its_pending_steps(restarted: Restart) -> None:
    emr, cluster = restarted.emr, restarted.clusters["running"]
    status = emr.await_cluster(cluster, "TERMINATED_WITH_ERRORS")
    assert status["StateChangeReason"]["Code"] == "INSTANCE_FAILURE"
    assert "endpoint was stopped or restarted" in status["StateChangeReason"]["Message"]
    assert status["Timeline"]["EndDateTime"] >= status["Timeline"]["ReadyDateTime"]
    pending = emr.status(cluster, restarted.steps["running"][1])
    assert (pending["State"], pending["StateChangeReason"]["Message"]) == ("CANCELLED", "Job terminated")


def test_a_step_that_was_being_cancelled_is_cancelled(restarted: Restart) -> None:
    before = restarted.before["cancelling"]["steps"][0]["Status"]
    assert before["State"] == "CANCEL_PENDING"
    status = restarted.emr.status(restarted.clusters["cancelling"], restarted.steps["cancelling"][0])
    assert (status["State"], status["StateChangeReason"]["Message"]) == ("CANCELLED", "Cancelled by user")


def test_a_cluster_without_a_running_step_continues(restarted: Restart) -> None:
    emr, cluster = restarted.emr, restarted.clusters["waiting"]
    before = restarted.before["waiting"]
    described = emr.cluster(cluster)
    assert {name: described[name] for name in CLUSTER_FIELDS if name != "Status"} == {
        name: before["cluster"][name] for name in CLUSTER_FIELDS if name != "Status"
    }
    [step] = emr.add(cluster, emr.bash("echo again"))
    assert emr.await_step(cluster, step)["State"] == "COMPLETED"
    assert emr.status(cluster, restarted.steps["waiting"][0]) == before["steps"][0]["Status"]
    assert emr.await_cluster(cluster, "WAITING")["Timeline"] == before["cluster"]["Status"]["Timeline"]


def test_the_idle_time_continues(restarted: Restart) -> None:
    status = restarted.emr.await_cluster(restarted.clusters["idle"], "TERMINATED")
    assert "the cluster was idle" in status["StateChangeReason"]["Message"]
    assert restarted.before["idle"]["cluster"]["Status"]["State"] == "WAITING"


def test_no_process_of_an_old_step_is_left_when_the_next_endpoint_is_ready(restarted: Restart) -> None:
    assert restarted.left == []


def test_clusters_are_terminated_after_a_restart(restarted: Restart) -> None:
    """The teardown task of the DAG does this."""
    name = f"terminate me {uuid.uuid4().hex}"
    cluster = restarted.emr.create(Name=name)
    restarted.emr.client.terminate_job_flows(JobFlowIds=[cluster, restarted.clusters["running"]])
    restarted.emr.await_cluster(cluster, "TERMINATED")
    assert restarted.emr.await_cluster(restarted.clusters["running"], "TERMINATED_WITH_ERRORS")


def test_an_endpoint_that_cannot_write_its_state_exits_and_loses_nothing(tmp_path: Path, emr_client: Any) -> None:
    process = EndpointProcess(tmp_path / "state")
    emr = emr_client(process.url, tmp_path / "state", tmp_path / "logs")
    cluster = emr.create()
    emr.await_cluster(cluster, "WAITING")
    journal = tmp_path / "state" / JOURNAL_FILE
    limit = process.log_file.stat().st_size + 1000  # the log can grow, SQLite's rollback journal cannot
    assert limit < 4096
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    once = emr.client_of("eu-west-3", config=Config(retries={"total_max_attempts": 1}))
    with pytest.raises(BotoCoreError):
        once.run_job_flow(**emr.request())
    assert process.stop() == STATE_NOT_SAVED
    assert f"cannot be written to {journal}" in process.log_file.read_text()
    with closing(Journal(journal)) as reread:
        assert list(reread.clusters) == [cluster]


def test_a_damaged_journal_is_refused_and_stays(tmp_path: Path) -> None:
    journal = tmp_path / JOURNAL_FILE
    journal.write_text('{"clusters": []}\n')
    command = [sys.executable, "-m", "local.emr", "--port", "0", "--state-dir", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") <= 3, "a message, no traceback"
    assert f"the state cannot be read from {journal} (file is not a database)" in refused.stderr
    assert "move the file away" in refused.stderr
    assert json.loads(journal.read_text()) == {"clusters": []}


def test_the_journal_of_an_earlier_version_is_reported_and_stays(start_endpoint: Any, tmp_path: Path) -> None:
    old_journal = tmp_path / "state 0" / OLD_JOURNAL_FILE
    old_journal.parent.mkdir()
    old_journal.write_text("1234abcd {}\n")
    process, emr = start_endpoint()
    assert emr.client.list_clusters()["Clusters"] == []
    warning = (
        f"WARNING local.emr.server the clusters of an earlier version of the endpoint, in {old_journal}, are not listed"
    )
    assert process.log_file.read_text().count(warning) == 1
    assert old_journal.read_text() == "1234abcd {}\n"
