"""Descriptions of clusters and steps in the journal, as JSON data. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from local.emr.clusters.cluster_state import ClusterState
from local.emr.spark.steps import Outcome, Step

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
        "ending": asdict(cluster.ending) if cluster.ending else None,
        "steps": {step.id: _describe_step(step) for step in cluster.steps},
    }


def _describe_step(step: Step) -> dict[str, Any]:
    return {
        **{name: getattr(step, name) for name in STEP_FIELDS},
        **{name: _text(getattr(step, name)) for name in STEP_TIMES},
        "outcome": asdict(step.outcome) if step.outcome else None,
    }


def restore_step(step_id: str, record: Mapping[str, Any]) -> Step:
    """Return the step that a description came from."""
    return Step(
        id=step_id,
        **{name: record[name] for name in STEP_FIELDS},
        **restore_times(record, STEP_TIMES),
        outcome=Outcome(**record["outcome"]) if record["outcome"] else None,
    )


def restore_times(record: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the times of a description by name; None for an event that has not happened."""
    return {name: datetime.fromisoformat(record[name]) if record[name] else None for name in names}


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
