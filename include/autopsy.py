"""Why a step failed: what EMR says of it and of its cluster, and the end of its log."""

from __future__ import annotations

import gzip
from typing import Any

from include.objects import at

TAIL_LINES = 40

STREAMS = ("stderr", "stdout")
"""The JVM's log, and the Python driver's: in client mode ``spark-submit`` sends both of its streams to stdout."""


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
    scheme, separator, rest = log_uri.partition("://")
    log_uri = f"s3{separator}{rest}" if scheme in {"s3n", "s3a"} else log_uri
    return f"{log_uri.rstrip('/')}/{cluster_id}/steps/{step_id}/{stream}.gz"


def read_log_tail(uri: str, aws_conn_id: str | None, lines: int = TAIL_LINES) -> str | None:
    """Return the last lines of a gzipped log; None when EMR has not written it yet."""
    path = at(uri, aws_conn_id)
    try:
        text = gzip.decompress(path.read_bytes()).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return None
    return "\n".join(text.splitlines()[-lines:])
