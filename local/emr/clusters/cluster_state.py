"""The attributes of a cluster that describe its state, for functions that only read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from local.emr.clusters.endings import Ending
from local.emr.spark.steps import Step


class ClusterState(Protocol):
    """What :class:`local.emr.clusters.cluster.Cluster` is to the modules that it uses itself."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def request(self) -> Mapping[str, Any]:
        """The RunJobFlow request."""

    @property
    def state(self) -> str:
        """EMR's state."""

    @property
    def reason(self) -> tuple[str | None, str]:
        """Code and message of the last change of state."""

    @property
    def ending(self) -> Ending | None:
        """Why it terminates; None while it is live."""

    @property
    def created(self) -> datetime:
        """Time of creation."""

    @property
    def ready(self) -> datetime | None:
        """Time when its bootstrap actions had completed."""

    @property
    def ended(self) -> datetime | None:
        """Time of termination."""

    @property
    def lost_instances(self) -> Mapping[str, dict[str, str]]:
        """Lost instances by id."""

    @property
    def steps(self) -> Sequence[Step]:
        """Its steps in the order of submission."""
