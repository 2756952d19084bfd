"""The captured logs of real steps that failed; made by ``tests/data/make_step_logs.py``."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from include.autopsy.logs import ContainerLog, StepLogs

FOLDER = Path(__file__).resolve().parents[1] / "data" / "step_logs"


def load(kind: str) -> tuple[dict[str, Any], dict[str, Any], StepLogs]:
    """Return a failed step, its cluster and its logs."""
    folder = FOLDER / kind
    step, cluster = (json.loads((folder / f"{name}.json").read_text()) for name in ("step", "cluster"))
    timeline = step["Status"]["Timeline"]
    step["Status"]["Timeline"] = {name: datetime.fromisoformat(time) for name, time in timeline.items()}
    texts = {name: (folder / name).read_text() for name in ("stdout", "stderr", "controller")}
    containers = tuple(
        ContainerLog(log.parent.name, log.read_text()) for log in sorted(folder.glob("containers/*/stderr"))
    )
    return step, cluster, StepLogs(folder="s3://b/logs/j-1/steps/s-1", **texts, containers=containers, complete=True)
