"""The size of a cluster, planned from the work of the day. Pure.

The plan is the smallest cluster that meets the deadline. Every node is paid for while the cluster starts and stops, so
with a deadline of an hour it is the cheapest one too (decision 0032).
"""

from __future__ import annotations

from dataclasses import dataclass

from include.cluster.instance_types import instance_types
from include.cluster.rates import Rates, count_work
from include.cluster.sizing import Size, find_capacity
from include.settings.parameters import RunParams

WORTH_A_NODE_SECONDS = 60.0
"""If no cluster meets the deadline, a node that saves less than this is not added: a deadline that is shorter than the
start of a cluster would give the largest one for a single photo."""


@dataclass(frozen=True)
class Work:
    """What a run has to do.

    Attributes
    ----------
    images : int
        Images that featurize computes.
    bytes : int
        Their total size.
    listed : int
        All images, which pca reads.
    """

    images: int
    bytes: int
    listed: int


@dataclass(frozen=True)
class SizePlan:
    """A cluster and how long it is expected to live.

    Attributes
    ----------
    work : Work
    size : Size
        Its worker nodes.
    vcpus : int
        Number of tasks that run at the same time.
    rates : Rates
    deadline_minutes : int
    """

    work: Work
    size: Size
    vcpus: int
    rates: Rates
    deadline_minutes: int

    @property
    def featurize_seconds(self) -> float:
        """Time of the tasks of featurize."""
        work = count_work(self.work.images, self.work.bytes)
        return work / (self.rates.images_per_second_per_vcpu * self.vcpus)

    @property
    def pca_seconds(self) -> float:
        """Time of pca that grows with the number of images."""
        return self.rates.pca_seconds_per_image * self.work.listed

    @property
    def seconds(self) -> float:
        """Time from the creation of the cluster to its termination."""
        return self.rates.start_and_stop_seconds + self.featurize_seconds + self.pca_seconds

    @property
    def meets_deadline(self) -> bool:
        """Whether the cluster is expected to have stopped by the deadline."""
        return self.seconds <= self.deadline_minutes * 60


def plan_size(work: Work, params: RunParams, rates: Rates) -> SizePlan:
    """Return the smallest cluster that meets the deadline.

    If none does, it is the smallest one that is at most :data:`WORTH_A_NODE_SECONDS` slower than the fastest.

    Parameters
    ----------
    work : Work
        What the run has to do.
    params : RunParams
        Instance types, deadline, and the limits of the number of nodes.
    rates : Rates
        How fast clusters start and work.

    Raises
    ------
    KeyError
        If an instance type is unknown.
    SizingError
        If a type is too small. :func:`include.cluster.rules.check_cluster` reports both in detail.
    """
    plans = [
        _plan(work, params, rates, workers) for workers in range(params.min_worker_nodes, params.max_worker_nodes + 1)
    ]
    longest = max(params.deadline_minutes * 60, min(plan.seconds for plan in plans) + WORTH_A_NODE_SECONDS)
    return next(plan for plan in plans if plan.seconds <= longest)


def _plan(work: Work, params: RunParams, rates: Rates, workers: int) -> SizePlan:
    types = [instance_types()[name] for name in params.core_instance_types]
    core = min(workers, params.max_core_nodes)
    size = Size(core, workers - core)
    capacity = find_capacity(size, instance_types()[params.master_instance_type], types)
    return SizePlan(work, size, capacity.vcpus, rates, params.deadline_minutes)
