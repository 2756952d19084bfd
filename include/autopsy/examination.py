"""Why a step failed, or its cluster: what EMR says, what the logs say, and what to do; as texts for a task's log."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from include.autopsy.cluster_logs import KEPT_BYTES, normalize_root, read_bootstrap_logs, read_end, read_step_logs
from include.autopsy.diagnosis import Diagnosis, diagnose, diagnose_cluster
from include.autopsy.step_logs import StepLogs, shorten, tail
from include.autopsy.symptoms import Kind

TAIL_LINES = 40
LONGEST_BRIEF = 500

STREAMS = ("stderr", "stdout")
"""The JVM's log, and the Python driver's: in client mode ``spark-submit`` sends both of its streams to stdout."""


@dataclass(frozen=True)
class Autopsy:
    """All that is known of a failure.

    Parameters
    ----------
    said : str
        What EMR itself says.
    diagnosis : Diagnosis
        What it comes from.
    logs : StepLogs
        What could be read.
    """

    said: str
    diagnosis: Diagnosis
    logs: StepLogs


def examine_step(
    step: dict[str, Any],
    cluster: dict[str, Any] | None,
    aws_conn_id: str | None,
    wait_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Autopsy:
    """Find out why a step did not complete. Reading its logs never raises; what could not be read is said.

    Parameters
    ----------
    step : dict
        ``Step`` of EMR's DescribeStep.
    cluster : dict or None
        ``Cluster`` of EMR's DescribeCluster, when it answered: without it, nobody knows where the logs are.
    aws_conn_id : str or None
        Airflow's connection.
    wait_seconds : float
        How long to wait for logs. A step that never ran leaves none, and is not waited for.
    sleep, clock : callable
        What passes the time and tells it, in seconds.
    """
    said = describe_failure(step, cluster)
    if cluster is None:
        logs = StepLogs(folder="", notes=("the cluster could not be described: where its logs are is not known",))
        return Autopsy(said, diagnose(step, cluster, logs), logs)
    started = (step["Status"].get("Timeline") or {}).get("StartDateTime") is not None
    if not started and cluster["Status"]["State"] == "TERMINATED_WITH_ERRORS":
        of_cluster = examine_cluster(cluster, aws_conn_id, wait_seconds, sleep, clock)
        return Autopsy(said, of_cluster.diagnosis, of_cluster.logs)
    cancelled = diagnose(step, cluster, StepLogs(folder="")).kind is Kind.CANCELLED
    wait_seconds = wait_seconds if started and not cancelled else 0.0
    logs = read_step_logs(
        cluster.get("LogUri"), str(cluster["Id"]), str(step["Id"]), aws_conn_id, wait_seconds, sleep, clock
    )
    return Autopsy(said, diagnose(step, cluster, logs), logs)


def examine_cluster(
    cluster: dict[str, Any],
    aws_conn_id: str | None,
    wait_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Autopsy:
    """Find out why a cluster ended before its steps did. The arguments are those of :func:`examine_step`."""
    change = cluster["Status"].get("StateChangeReason") or {}
    logs = StepLogs(folder="")
    if change.get("Code") == "BOOTSTRAP_FAILURE":
        message = str(change.get("Message") or "")
        logs = read_bootstrap_logs(
            cluster.get("LogUri"), str(cluster["Id"]), message, aws_conn_id, wait_seconds, sleep, clock
        )
    return Autopsy(describe_cluster(cluster), diagnose_cluster(cluster, logs), logs)


def render(autopsy: Autopsy) -> str:
    """Return everything as text for a task's log: the cause and what to do first, then what shows it."""
    diagnosis, logs = autopsy.diagnosis, autopsy.logs
    driver = [(f"The end of {logs.folder}/{name}.gz", getattr(logs, name)) for name in ("stdout", "stderr")]
    containers = [(f"The end of the log of {log.name}", log.text) for log in logs.containers]
    parts = [
        f"Why it failed: {diagnosis.kind.upper()}",
        f"Cause: {diagnosis.cause}",
        f"What to do: {diagnosis.advice}",
        f"EMR says: {autopsy.said}",
        _block("What shows it", "\n".join(diagnosis.evidence)),
        _block("Containers that failed", "\n".join(diagnosis.containers)),
        _block("The last Python traceback", diagnosis.traceback),
        *(_block(title, tail(text, TAIL_LINES)) for title, text in [*driver, *containers]),
        _block("About the logs", "\n".join([*logs.notes, *([f"they are in {logs.folder}"] if logs.folder else [])])),
    ]
    return "\n".join(part for part in parts if part)


def _block(title: str, text: str) -> str:
    return f"{title}:\n{textwrap.indent(text.rstrip(), '  ')}" if text.strip() else ""


def brief(autopsy: Autopsy) -> str:
    """Return the failure in one line, for an exception."""
    diagnosis = autopsy.diagnosis
    cause, said = (re.sub(r"\s+", " ", text) for text in (diagnosis.cause, autopsy.said))
    where = f"; logs: {autopsy.logs.folder}" if autopsy.logs.folder else ""
    return f"{diagnosis.kind}: {shorten(cause, LONGEST_BRIEF)} ({shorten(said, LONGEST_BRIEF)}){where}"


def describe_failure(step: dict[str, Any], cluster: dict[str, Any] | None) -> str:
    """Return in one paragraph what EMR says of a step that did not complete.

    Parameters
    ----------
    step : dict
        ``Step`` of EMR's DescribeStep.
    cluster : dict or None
        ``Cluster`` of EMR's DescribeCluster, when it answered.
    """
    status = step["Status"]
    parts = [f"step {step.get('Name', '')!r} ({step.get('Id', '')}) ended {status['State']}"]
    details = status.get("FailureDetails") or {}
    parts += [f"{name}: {details[name]}" for name in ("Reason", "Message", "LogFile") if details.get(name)]
    reason = (status.get("StateChangeReason") or {}).get("Message")
    if reason:
        parts.append(f"step: {reason}")
    if cluster is not None:
        parts.append(describe_cluster(cluster))
    return "; ".join(parts)


def describe_cluster(cluster: dict[str, Any]) -> str:
    """Return what EMR says of a cluster's state, with its reason.

    Parameters
    ----------
    cluster : dict
        ``Cluster`` of EMR's DescribeCluster.
    """
    state = cluster["Status"]
    change = state.get("StateChangeReason") or {}
    told = " ".join(text for text in (change.get("Code"), change.get("Message")) if text)
    return f"cluster {cluster.get('Id', '')} is {state['State']}" + (f" ({told})" if told else "")


def step_log_uri(log_uri: str, cluster_id: str, step_id: str, stream: str) -> str:
    """Return where EMR puts a step's log; EMR itself writes ``s3n://`` for the ``s3://`` that it was given."""
    return f"{normalize_root(log_uri)}/{cluster_id}/steps/{step_id}/{stream}.gz"


def read_log_tail(uri: str, aws_conn_id: str | None, lines: int = TAIL_LINES) -> str | None:
    """Return the last lines of a gzipped log; None when EMR has not written it yet.

    Raises
    ------
    OSError
        When it cannot be read.
    """
    try:
        text, _ = read_end(uri, aws_conn_id, max(KEPT_BYTES, lines * 512))
    except FileNotFoundError:
        return None
    return "\n".join(text.splitlines()[-lines:])
