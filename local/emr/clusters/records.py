"""Descriptions of clusters and steps in the journal, as JSON data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from local.emr.clusters.cluster_state import ClusterState
from local.emr.clusters.terminations import Termination
from local.emr.spark.step_outcome import Outcome
from local.emr.spark.steps import Step

CLUSTER_FIELDS = (
    *("region", "account", "request", "keep_alive", "termination_protected", "concurrency", "auto_termination"),
    *("managed_scaling", "tags", "state", "lost_instances"),
)
"""Attributes of a cluster that are saved without conversion."""

STEP_FIELDS = ("config", "action_on_failure", "state", "reason")
"""Attributes of a step that are saved without conversion."""

CLUSTER_TIMES = ("created", "ready", "ended", "idle_since")
STEP_TIMES = ("created", "started", "ended")


def describe_cluster(cluster: ClusterState) -> dict[str, Any]:
    """Return what another endpoint needs to continue the cluster and its steps."""
    return {
        **{name: getattr(cluster, name) for name in CLUSTER_FIELDS},
        **{name: _text(getattr(cluster, name)) for name in CLUSTER_TIMES},
        "reason": list(cluster.reason),
        "termination": asdict(cluster.termination) if cluster.termination else None,
        "steps": {step.id: _describe_step(step) for step in cluster.steps},
    }


def restore_cluster(cluster: ClusterState, description: Mapping[str, Any]) -> None:
    """Set the attributes of a new cluster to those of a description.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the description is not complete.
    """
    for name in CLUSTER_FIELDS:
        setattr(cluster, name, description[name])
    for name, time in _times(description, CLUSTER_TIMES).items():
        setattr(cluster, name, time)
    code, message = description["reason"]
    cluster.reason = (code, message)
    cluster.termination = Termination(**description["termination"]) if description["termination"] else None
    cluster.steps = [_restore_step(step_id, step) for step_id, step in description["steps"].items()]


def _describe_step(step: Step) -> dict[str, Any]:
    return {
        **{name: getattr(step, name) for name in STEP_FIELDS},
        **{name: _text(getattr(step, name)) for name in STEP_TIMES},
        "outcome": asdict(step.outcome) if step.outcome else None,
    }


def _restore_step(step_id: str, description: Mapping[str, Any]) -> Step:
    return Step(
        id=step_id,
        **{name: description[name] for name in STEP_FIELDS},
        **_times(description, STEP_TIMES),
        outcome=Outcome(**description["outcome"]) if description["outcome"] else None,
    )


def _times(description: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the times of a description by name; None for what has not happened yet."""
    return {name: datetime.fromisoformat(description[name]) if description[name] else None for name in names}


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
