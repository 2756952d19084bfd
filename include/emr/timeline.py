"""What a cluster did when: start-up, steps, shutdown, as EMR reports them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from include.records import JsonObject, TimelinePart


def read_timeline(cluster: JsonObject, steps: Sequence[JsonObject], now: datetime) -> list[TimelinePart]:
    """Return the parts of a cluster's life, the first one first; parts that have not begun are left out.

    The shutdown begins when the last step has ended.

    Parameters
    ----------
    cluster : dict
        ``Cluster`` of EMR's DescribeCluster.
    steps : sequence of dict
        ``Steps`` of EMR's ListSteps.
    now : datetime
        The end of what has not ended.
    """
    times = cluster.get("Status", {}).get("Timeline", {})
    created, ready, ended = (times.get(f"{name}DateTime") for name in ("Creation", "Ready", "End"))
    if created is None:
        return []
    parts = [_part("start", "", created, ready or ended or now)]
    for step in steps:
        step_times = step.get("Status", {}).get("Timeline", {})
        if begin := step_times.get("StartDateTime"):
            parts.append(_part("step", step.get("Name", ""), begin, step_times.get("EndDateTime") or ended or now))
    parts.sort(key=lambda part: part["start"])
    if ready and ended:
        parts.append(_part("end", "", max(datetime.fromisoformat(part["end"]) for part in parts), ended))
    return parts


def _part(what: Literal["start", "step", "end"], name: str, start: datetime, end: datetime) -> TimelinePart:
    return {"what": what, "name": name, "start": start.isoformat(), "end": end.isoformat()}
