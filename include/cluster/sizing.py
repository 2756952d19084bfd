"""Spark's cores and memory, computed from the instance types of the cluster. Pure.

The model and the decoder run in Python processes outside the JVM, whose memory is the executor's overhead, not its
heap. docs/cluster.md has a table of the results, docs/decisions/0017-memory-and-wheels.md the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from include.cluster.instance_types import InstanceType

MAX_EXECUTOR_CORES = 4
"""Concurrent tasks of one executor. They are lost together if YARN kills it or its spot node goes."""

EXECUTOR_HEAP_MIB = 1024
"""The JVM processes no rows; it holds the broadcast model (9 MB) and the results of tasks."""

JVM_OVERHEAD_MIB = 384
"""Memory of a JVM outside its heap (threads, code, buffers): Spark's minimum overhead."""

WORKER_MIB = 256
"""A Python worker with the model: 125 MiB measured, plus up to 64 MiB of files (--read-bytes-in-flight), output rows
and PySpark."""

DECODE_CHILD_MIB = 320
"""The decoding child process of a worker: 305 MiB measured with the largest accepted JPEG (64 million pixels), 19 MiB
with small photos."""

SLOT_MIB = WORKER_MIB + DECODE_CHILD_MIB
"""Minimum memory of a task's two Python processes."""

YARN_RESERVED_MIB = 8192
YARN_RESERVED_SHARE = 4
"""EMR gives YARN the memory of a node minus one quarter, or minus 8 GiB if that is less (EMR Release Guide, "Task
configuration": yarn.nodemanager.resource.memory-mb is 12288 of m4.xlarge's 16 GiB, 57344 of m4.4xlarge's 64 GiB)."""

YARN_STEP_MIB = 32
"""EMR's yarn.scheduler.minimum-allocation-mb: container sizes are multiples of it (same source)."""

AM_HEAP_MIB = 512
AM_OVERHEAD_MIB = 384
AM_MIB = AM_HEAP_MIB + AM_OVERHEAD_MIB
"""The application master without the driver (deploy mode client): Spark's defaults. Set explicitly, since executors
must leave room for it on its node."""

DRIVER_HEAP_MIB = 4096
"""The driver holds the listing's row groups, a 1280 x 1280 covariance matrix and its eigenvectors: less than 1 GB."""

DRIVER_PYTHON_MIB = 1024
"""The driver's Python: 673 to 1,112 MiB measured with its JVM, at one million files (docs/performance.md)."""

DRIVER_MIB = DRIVER_HEAP_MIB + DRIVER_PYTHON_MIB
"""Memory of the driver, on the primary node."""


class SizingError(ValueError):
    """An instance type has too little memory for its processes."""


@dataclass(frozen=True)
class Size:
    """The worker nodes of a cluster, in capacity units of its fleets; without any, the primary node does the work.

    Attributes
    ----------
    core_nodes : int
        On-demand nodes.
    task_nodes : int
        Spot nodes.
    """

    core_nodes: int
    task_nodes: int

    @property
    def worker_nodes(self) -> int:
        """Number of all worker nodes."""
        return self.core_nodes + self.task_nodes

    @property
    def is_single_node(self) -> bool:
        """Whether the primary node is the only node."""
        return self.worker_nodes == 0


@dataclass(frozen=True)
class Executor:
    """The resources that one executor requests from YARN.

    Attributes
    ----------
    cores : int
        Number of concurrent tasks.
    heap_mib, overhead_mib : int
        Memory of the JVM's heap, and of everything else in the container, mainly Python.
    """

    cores: int
    heap_mib: int
    overhead_mib: int

    @property
    def slot_mib(self) -> int:
        """Memory of each task's Python processes, in MiB."""
        return (self.overhead_mib - JVM_OVERHEAD_MIB) // self.cores


@dataclass(frozen=True)
class Capacity:
    """The executors of a cluster.

    Attributes
    ----------
    executor : Executor
        The size of each.
    executors : int
        Their number.
    """

    executor: Executor
    executors: int

    @property
    def vcpus(self) -> int:
        """Number of tasks that run at the same time, one per vCPU."""
        return self.executors * self.executor.cores


def find_capacity(size: Size, primary: InstanceType, workers: Sequence[InstanceType]) -> Capacity:
    """Return the executors of a cluster.

    Parameters
    ----------
    size : Size
        Its worker nodes.
    primary : InstanceType
        The type of the primary node.
    workers : sequence of InstanceType
        The types of core and task nodes; at least one.

    Raises
    ------
    SizingError
        If a type of the nodes that run executors has too little memory.
    """
    if size.is_single_node:
        return size_single_node(primary)
    executor = size_executor(workers)
    return Capacity(executor, size.worker_nodes * (unit_vcpus(workers) // executor.cores))


def yarn_mib(node: InstanceType) -> int:
    """Return the memory in MiB that EMR gives YARN on a node."""
    return node.memory_mib - min(node.memory_mib // YARN_RESERVED_SHARE, YARN_RESERVED_MIB)


def size_executor(nodes: Sequence[InstanceType]) -> Executor:
    """Return an executor of such a size that executors use all cores of every node, next to the application master.

    All executors of an application have the same size, so the type with the least memory per core determines it.

    Parameters
    ----------
    nodes : sequence of InstanceType
        The types of core and task nodes; at least one.

    Raises
    ------
    SizingError
        If one of the types has too little memory for the Python processes; the message names it.
    """
    cores = min(MAX_EXECUTOR_CORES, *(node.vcpus for node in nodes))
    container, smallest = min(((_container_mib(node, cores), node) for node in nodes), key=lambda pair: pair[0])
    needed = _executor_mib(cores)
    if container < needed:
        raise SizingError(
            f"{smallest.name!r} has {smallest.vcpus} vCPUs and {smallest.memory_mib} MiB, of which an executor of "
            f"{cores} cores gets {max(container, 0)} MiB; it needs {needed}. Expected a type with more memory per vCPU"
        )
    return Executor(cores, EXECUTOR_HEAP_MIB, container - EXECUTOR_HEAP_MIB)


def _container_mib(node: InstanceType, cores: int) -> int:
    share = (yarn_mib(node) - AM_MIB) // (node.vcpus // cores)
    return share // YARN_STEP_MIB * YARN_STEP_MIB


def size_single_node(node: InstanceType) -> Capacity:
    """Return the executors of a cluster that consists of its primary node.

    EMR gives YARN as much memory as on any node of this type, but here the driver and the daemons of a primary node run
    beside the executors. So executors get the memory that :func:`check_driver` does not need, at most YARN's share. If
    that is too little for all cores, there are fewer executors.

    Parameters
    ----------
    node : InstanceType
        The type of the primary node.

    Raises
    ------
    SizingError
        If there is not enough memory for one executor; the message names the type.
    """
    cores = min(MAX_EXECUTOR_CORES, node.vcpus)
    available = min(yarn_mib(node), node.memory_mib - 2 * DRIVER_MIB) - AM_MIB
    needed = _executor_mib(cores)
    executors = min(node.vcpus // cores, available // needed)
    if executors < 1:
        raise SizingError(
            f"{node.name!r} has {node.memory_mib} MiB, of which an executor beside the driver gets "
            f"{max(available, 0)} MiB; it needs {needed}. Expected a type with more memory, or min_worker_nodes of 1 "
            "or more"
        )
    container = available // executors // YARN_STEP_MIB * YARN_STEP_MIB
    return Capacity(Executor(cores, EXECUTOR_HEAP_MIB, container - EXECUTOR_HEAP_MIB), executors)


def _executor_mib(cores: int) -> int:
    """Return the least memory of an executor's container."""
    return EXECUTOR_HEAP_MIB + JVM_OVERHEAD_MIB + cores * SLOT_MIB


def check_driver(node: InstanceType) -> None:
    """Check that the driver fits into half of the primary node's memory; EMR's daemons need the other half.

    Raises
    ------
    SizingError
        If it does not fit.
    """
    if node.memory_mib // 2 < DRIVER_MIB:
        raise SizingError(
            f"{node.name!r} has {node.memory_mib} MiB; expected {2 * DRIVER_MIB} or more: Spark's driver needs "
            f"{DRIVER_MIB} (--driver-memory and Python), EMR's daemons need the other half"
        )


def unit_vcpus(nodes: Sequence[InstanceType]) -> int:
    """Return the vCPUs of one capacity unit of a fleet: those of its smallest type."""
    return min(node.vcpus for node in nodes)


def weight(node: InstanceType, unit: int) -> int:
    """Return how many capacity units of a fleet a node provides; at least 1."""
    return max(1, node.vcpus // unit)
