"""Spark's cores and memory, from the instance types of the cluster. Pure.

The model and the decoder run in Python, beside the JVM: what matters is not the executor's heap but its overhead, in
which the Python processes live. docs/cluster.md has the table, docs/decisions/0017-memory-and-wheels.md the reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from include.cluster.instance_types import InstanceType

MOST_EXECUTOR_CORES = 4
"""Tasks at a time in one executor: what is lost with it when YARN kills it, or a spot node goes."""

EXECUTOR_HEAP_MIB = 1024
"""Rows pass by the JVM; it holds the broadcast model (9 MB) and what tasks return."""

JVM_OVERHEAD_MIB = 384
"""What a JVM takes beside its heap (threads, code, buffers): Spark's own least overhead."""

WORKER_MIB = 256
"""A Python worker with the model: 125 MiB measured, and up to 64 MiB of files in flight (--read-bytes-in-flight), the
rows that it hands on, and PySpark."""

DECODE_CHILD_MIB = 320
"""A worker's decode child with the largest JPEG that is decoded, 64 million pixels: 305 MiB measured; 19 MiB with small
photos."""

SLOT_MIB = WORKER_MIB + DECODE_CHILD_MIB
"""The least that one task's two Python processes get."""

YARN_RESERVED_MIB = 8192
YARN_RESERVED_SHARE = 4
"""EMR gives YARN a node's memory but a quarter of it, and but 8 GiB of large ones (EMR Release Guide, "Task
configuration": yarn.nodemanager.resource.memory-mb is 12288 of m4.xlarge's 16 GiB, 57344 of m4.4xlarge's 64 GiB)."""

YARN_STEP_MIB = 32
"""EMR's yarn.scheduler.minimum-allocation-mb: containers are multiples of it (the same source)."""

AM_HEAP_MIB = 512
AM_OVERHEAD_MIB = 384
AM_MIB = AM_HEAP_MIB + AM_OVERHEAD_MIB
"""The application master, with the driver outside of it (deploy mode client): Spark's defaults, set here so that the
executors leave room for it on the node where it runs."""

DRIVER_HEAP_MIB = 4096
"""The driver holds the listing's row groups, one 1280 x 1280 covariance and its eigenvectors: well under 1 GB."""

DRIVER_PYTHON_MIB = 1024
"""The driver's Python: 673 to 1,112 MiB with its JVM, at a million files (README, "How fast")."""


class SizingError(ValueError):
    """A node is too small for what has to run on it."""


@dataclass(frozen=True)
class Executor:
    """What one executor asks of YARN.

    Attributes
    ----------
    cores : int
        Tasks that it runs at a time.
    heap_mib, overhead_mib : int
        Memory of the JVM's heap, and of all else in the container, Python first of all.
    """

    cores: int
    heap_mib: int
    overhead_mib: int

    @property
    def slot_mib(self) -> int:
        """What each task's Python processes have, in MiB."""
        return (self.overhead_mib - JVM_OVERHEAD_MIB) // self.cores


def yarn_mib(node: InstanceType) -> int:
    """Return the memory that YARN has on a node, in MiB, as EMR sets it."""
    return node.memory_mib - min(node.memory_mib // YARN_RESERVED_SHARE, YARN_RESERVED_MIB)


def size_executor(nodes: Sequence[InstanceType]) -> Executor:
    """Return the executor of which every node holds as many as it has cores for, and the application master beside.

    All executors of an application are alike, so that the node with the least memory a core decides.

    Parameters
    ----------
    nodes : sequence of InstanceType
        The types that core and task nodes may have; one at least.

    Raises
    ------
    SizingError
        When the Python processes of an executor's tasks do not fit into one of the types; the message names it.
    """
    cores = min(MOST_EXECUTOR_CORES, *(node.vcpus for node in nodes))
    container, smallest = min(((_container_mib(node, cores), node) for node in nodes), key=lambda pair: pair[0])
    needed = EXECUTOR_HEAP_MIB + JVM_OVERHEAD_MIB + cores * SLOT_MIB
    if container < needed:
        raise SizingError(
            f"{smallest.name!r} has {smallest.vcpus} vCPUs and {smallest.memory_mib} MiB, of which an executor of "
            f"{cores} cores gets {max(container, 0)} MiB; it needs {needed}. Expected a type with more memory a vCPU"
        )
    return Executor(cores, EXECUTOR_HEAP_MIB, container - EXECUTOR_HEAP_MIB)


def _container_mib(node: InstanceType, cores: int) -> int:
    share = (yarn_mib(node) - AM_MIB) // (node.vcpus // cores)
    return share // YARN_STEP_MIB * YARN_STEP_MIB


def check_driver(node: InstanceType) -> None:
    """Check that the primary node holds the driver beside EMR's own daemons, which get the other half of it.

    Raises
    ------
    SizingError
        When it does not.
    """
    needed = DRIVER_HEAP_MIB + DRIVER_PYTHON_MIB
    if node.memory_mib // 2 < needed:
        raise SizingError(
            f"{node.name!r} has {node.memory_mib} MiB; expected {2 * needed} or more: Spark's driver takes {needed} of "
            "it (--driver-memory and Python), the daemons of EMR the other half"
        )


def unit_vcpus(nodes: Sequence[InstanceType]) -> int:
    """Return the vCPUs of one unit of a fleet's capacity: those of its smallest type."""
    return min(node.vcpus for node in nodes)


def weight(node: InstanceType, unit: int) -> int:
    """Return how many units of a fleet's capacity a node is worth, one at least."""
    return max(1, node.vcpus // unit)
