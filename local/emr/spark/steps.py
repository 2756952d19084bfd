"""A step as the API describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from moto.emr.utils import random_step_id

from local.emr.spark.step_outcome import Outcome
from local.emr.spark.step_run import StepRun

ACTIVE_STATES = ("PENDING", "CANCEL_PENDING", "RUNNING")


@dataclass
class Step:
    """A step: its request, its state and its run. The lock of its cluster guards it."""

    config: Mapping[str, Any]
    action_on_failure: str
    id: str = field(default_factory=random_step_id)
    state: str = "PENDING"
    reason: str = ""
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    started: datetime | None = None
    ended: datetime | None = None
    outcome: Outcome | None = None
    run: StepRun | None = None

    @property
    def name(self) -> str:
        """The name of the step."""
        return str(self.config["Name"])

    @property
    def argv(self) -> list[str]:
        """The arguments of command-runner.jar."""
        return list((self.config.get("HadoopJarStep") or {}).get("Args") or [])

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state in ACTIVE_STATES
