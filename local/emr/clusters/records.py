"""Clusters and steps as the journal keeps them: plain data that JSON can hold. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from local.emr.clusters.cluster_state import ClusterState
from local.emr.spark.steps import Outcome, Step

CLUSTER_FIELDS = (
    *("region", "account", "request", "keep_alive", "termination_protected", "concurrency", "auto_termination"),
    *("managed_scaling", "tags", "state"),
)
"""Attributes of a cluster that are kept as they are."""

STEP_FIELDS = ("config", "action_on_failure", "state", "reason")
"""Attributes of a step that are kept as they are."""

CLUSTER_TIMES = ("created", "ready", "ended", "idle_since")
STEP_TIMES = ("created", "started", "ended")


def describe_cluster(cluster: ClusterState) -> dict[str, Any]:
    """Return all that must be known of a cluster and of its steps, so that another endpoint can go on with it."""
    return {
        **{name: getattr(cluster, name) for name in CLUSTER_FIELDS},
        **{name: _text(getattr(cluster, name)) for name in CLUSTER_TIMES},
        "reason": list(cluster.reason),
        "ending": asdict(cluster.ending) if cluster.ending else None,
        # Left out when there are none, as by endpoints that knew of none.
        **({"lost_instances": cluster.lost_instances} if cluster.lost_instances else {}),
        "steps": {step.id: _describe_step(step) for step in cluster.steps},
    }


def _describe_step(step: Step) -> dict[str, Any]:
    return {
        **{name: getattr(step, name) for name in STEP_FIELDS},
        **{name: _text(getattr(step, name)) for name in STEP_TIMES},
        "outcome": asdict(step.outcome) if step.outcome else None,
    }


def restore_step(step_id: str, record: Mapping[str, Any]) -> Step:
    """Return a step as it was described."""
    return Step(
        id=step_id,
        **{name: record[name] for name in STEP_FIELDS},
        **restore_times(record, STEP_TIMES),
        outcome=Outcome(**record["outcome"]) if record["outcome"] else None,
    )


def restore_times(record: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Return the moments of a record under their names; None for what has not happened."""
    return {name: datetime.fromisoformat(record[name]) if record[name] else None for name in names}


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be merged into an old description to get the new one: its changed fields, by step as well."""
    changed = {name: value for name, value in new.items() if name != "steps" and old.get(name, ...) != value}
    known = old.get("steps", {})
    steps = {
        step_id: {name: value for name, value in step.items() if known.get(step_id, {}).get(name, ...) != value}
        for step_id, step in new["steps"].items()
        if known.get(step_id) != step
    }
    return changed | ({"steps": steps} if steps else {})


def merge(old: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return a description with a :func:`difference` merged into it."""
    steps = dict(old.get("steps", {}))
    for step_id, fields in change.get("steps", {}).items():
        steps[step_id] = steps.get(step_id, {}) | fields
    return {**old, **change, "steps": steps}
