"""Examine a failed step or cluster: the cause, the evidence and what to do, as text for a task's log."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass

from include.autopsy.diagnosis import Diagnosis, diagnose, diagnose_cluster
from include.autopsy.logs import StepLogs, shorten, tail
from include.autopsy.reading import TAIL_BYTES, normalize_root, read_bootstrap_logs, read_step_logs, read_tail
from include.autopsy.symptoms import Kind
from include.records import JsonObject

TAIL_LINES = 40
MAX_BRIEF = 500

STREAMS = ("stderr", "stdout")
"""The log of the JVM and that of the Python driver, whose two streams ``spark-submit`` writes to stdout."""


@dataclass(frozen=True)
class Autopsy:
    """The facts about a failure.

    Parameters
    ----------
    emr_report : str
        What EMR reports.
    diagnosis : Diagnosis
        The cause, and what to do.
    logs : StepLogs
        The logs, as far as they could be read.
    """

    emr_report: str
    diagnosis: Diagnosis
    logs: StepLogs


def examine_step(
    step: JsonObject,
    cluster: JsonObject | None,
    aws_conn_id: str | None,
    wait_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Autopsy:
    """Find out why a step did not complete. Reading its logs never raises; the result says what could not be read.

    Parameters
    ----------
    step : dict
        ``Step`` from DescribeStep.
    cluster : dict or None
        ``Cluster`` from DescribeCluster; without it, the place of the logs is unknown.
    aws_conn_id : str or None
        Airflow's connection.
    wait_seconds : float
        How long to wait for logs; zero is used for a step that never started, which leaves none.
    sleep, clock : callable
        Replacements for ``time.sleep`` and ``time.monotonic``.
    """
    report = describe_failure(step, cluster)
    if cluster is None:
        logs = StepLogs(folder="", notes=("the cluster could not be described, so the place of its logs is unknown",))
        return Autopsy(report, diagnose(step, cluster, logs), logs)
    started = (step["Status"].get("Timeline") or {}).get("StartDateTime") is not None
    if not started and cluster["Status"]["State"] == "TERMINATED_WITH_ERRORS":
        failure = examine_cluster(cluster, aws_conn_id, wait_seconds, sleep, clock)
        return Autopsy(report, failure.diagnosis, failure.logs)
    cancelled = diagnose(step, cluster, StepLogs(folder="")).kind is Kind.CANCELLED
    wait_seconds = wait_seconds if started and not cancelled else 0.0
    logs = read_step_logs(
        cluster.get("LogUri"), str(cluster["Id"]), str(step["Id"]), aws_conn_id, wait_seconds, sleep, clock
    )
    return Autopsy(report, diagnose(step, cluster, logs), logs)


def examine_cluster(
    cluster: JsonObject,
    aws_conn_id: str | None,
    wait_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Autopsy:
    """Find out why a cluster ended before its steps; see :func:`examine_step` for the arguments."""
    change = cluster["Status"].get("StateChangeReason") or {}
    logs = StepLogs(folder="")
    if change.get("Code") == "BOOTSTRAP_FAILURE":
        message = str(change.get("Message") or "")
        logs = read_bootstrap_logs(
            cluster.get("LogUri"), str(cluster["Id"]), message, aws_conn_id, wait_seconds, sleep, clock
        )
    return Autopsy(describe_cluster(cluster), diagnose_cluster(cluster, logs), logs)


def render(autopsy: Autopsy) -> str:
    """Return an autopsy as text for a task's log: first the cause and what to do, then the evidence."""
    diagnosis, logs = autopsy.diagnosis, autopsy.logs
    driver = [(f"Last lines of {logs.folder}/{name}.gz", getattr(logs, name)) for name in ("stdout", "stderr")]
    containers = [(f"Last lines of the log of {log.name}", log.text) for log in logs.containers]
    parts = [
        f"Why it failed: {diagnosis.kind.upper()}",
        f"Cause: {diagnosis.cause}",
        f"What to do: {diagnosis.advice}",
        f"EMR reports: {autopsy.emr_report}",
        _block("Evidence", "\n".join(diagnosis.evidence)),
        _block("Failed containers", "\n".join(diagnosis.containers)),
        _block("Last Python traceback", diagnosis.traceback),
        *(_block(title, tail(text, TAIL_LINES)) for title, text in [*driver, *containers]),
        _block(
            "About the logs", "\n".join([*logs.notes, *([f"The logs are in {logs.folder}"] if logs.folder else [])])
        ),
    ]
    return "\n".join(part for part in parts if part)


def _block(title: str, text: str) -> str:
    return f"{title}:\n{textwrap.indent(text.rstrip(), '  ')}" if text.strip() else ""


def brief(autopsy: Autopsy) -> str:
    """Return an autopsy in one line, for an exception."""
    diagnosis = autopsy.diagnosis
    cause, report = (re.sub(r"\s+", " ", text) for text in (diagnosis.cause, autopsy.emr_report))
    where = f"; logs: {autopsy.logs.folder}" if autopsy.logs.folder else ""
    return f"{diagnosis.kind}: {shorten(cause, MAX_BRIEF)} ({shorten(report, MAX_BRIEF)}){where}"


def describe_failure(step: JsonObject, cluster: JsonObject | None) -> str:
    """Return EMR's report of a step that did not complete, in one paragraph.

    Parameters
    ----------
    step : dict
        ``Step`` from DescribeStep.
    cluster : dict or None
        ``Cluster`` from DescribeCluster, if EMR answered.
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


def describe_cluster(cluster: JsonObject) -> str:
    """Return the state of a described cluster, with EMR's reason."""
    state = cluster["Status"]
    change = state.get("StateChangeReason") or {}
    reason = " ".join(text for text in (change.get("Code"), change.get("Message")) if text)
    return f"cluster {cluster.get('Id', '')} is {state['State']}" + (f" ({reason})" if reason else "")


def step_log_uri(log_uri: str, cluster_id: str, step_id: str, stream: str) -> str:
    """Return the URI of a step's log."""
    return f"{normalize_root(log_uri)}/{cluster_id}/steps/{step_id}/{stream}.gz"


def read_log_tail(uri: str, aws_conn_id: str | None, lines: int = TAIL_LINES) -> str | None:
    """Return the last lines of a gzipped log; None if EMR has not written it yet.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    try:
        text, _ = read_tail(uri, aws_conn_id, max(TAIL_BYTES, lines * 512))
    except FileNotFoundError:
        return None
    return "\n".join(text.splitlines()[-lines:])
