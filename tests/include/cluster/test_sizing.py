"""Spark's memory, computed from the nodes': against EMR's own table, and by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from include.cluster.instance_types import InstanceType, instance_types
from include.cluster.sizing import (
    AM_MIB,
    DRIVER_HEAP_MIB,
    DRIVER_MIB,
    EXECUTOR_HEAP_MIB,
    JVM_OVERHEAD_MIB,
    SLOT_MIB,
    Capacity,
    Executor,
    Size,
    SizingError,
    check_driver,
    find_capacity,
    size_executor,
    size_single_node,
    weight,
    yarn_mib,
)

EMR_TABLE = {
    "m4.large": (8_192, 6_144),
    "m4.xlarge": (16_384, 12_288),
    "m4.2xlarge": (32_768, 24_576),
    "m4.4xlarge": (65_536, 57_344),
    "m4.10xlarge": (163_840, 155_648),
    "m4.16xlarge": (262_144, 253_952),
    "c4.2xlarge": (15_360, 11_520),
    "c4.4xlarge": (30_720, 23_040),
    "c4.8xlarge": (61_440, 53_248),
    "r4.xlarge": (31_232, 23_424),
    "r4.2xlarge": (62_464, 54_272),
}
"""Memory of the type in MiB, and yarn.nodemanager.resource.memory-mb (EMR Release Guide, "Task configuration")."""


def node(name: str) -> InstanceType:
    return instance_types()[name]


def test_yarn_gets_the_memory_that_emr_documents() -> None:
    for name, (memory, yarn) in EMR_TABLE.items():
        assert yarn_mib(InstanceType(name, 4, memory, "x86_64", "abc")) == yarn, name


def test_default_node_by_hand() -> None:
    """16 GiB: YARN has 12288 MiB, 896 of them for the application master; two executors of 5696, 1024 of it heap."""
    assert size_executor([node("c7g.2xlarge")]) == Executor(cores=4, heap_mib=1024, overhead_mib=4672)


def test_executors_use_all_cores_of_every_type_and_fit_next_to_the_application_master() -> None:
    for name, type_ in instance_types().items():
        executor = size_executor([type_])
        container = executor.heap_mib + executor.overhead_mib
        executors = type_.vcpus // executor.cores
        assert executors * executor.cores == type_.vcpus, name
        assert executors * container + AM_MIB <= yarn_mib(type_), name
        assert container % 32 == 0, f"{name}: YARN would round it up"
        assert executor.overhead_mib >= JVM_OVERHEAD_MIB + executor.cores * SLOT_MIB, name
        assert executor.slot_mib >= SLOT_MIB, name


def test_table_in_the_documentation_is_computed() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "cluster.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+xlarge) \| (\d+), (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 5
    for name, *documented in rows:
        executor, type_ = size_executor([node(name)]), node(name)
        computed = (type_.vcpus, type_.memory_mib, yarn_mib(type_), type_.vcpus // executor.cores)
        assert tuple(map(int, documented)) == (*computed, executor.overhead_mib, executor.slot_mib)


def test_type_with_the_least_memory_per_core_determines_the_executor() -> None:
    nodes = [node("m7g.2xlarge"), node("c7g.2xlarge"), node("r7g.4xlarge")]
    assert size_executor(nodes) == size_executor(nodes[::-1]) == size_executor([node("c7g.2xlarge")])


def test_smallest_type_determines_the_cores() -> None:
    small = InstanceType("small", 2, 16_384, "arm64", "abc")
    assert size_executor([small, node("m7g.4xlarge")]).cores == 2


def test_type_that_is_too_small_for_an_executor_is_named() -> None:
    """Of 4096 MiB YARN has 3072, 896 of them for the application master: 2176 for 4 tasks that need 3712."""
    little = InstanceType("x1.little", 4, 4_096, "arm64", "abc")
    needed = EXECUTOR_HEAP_MIB + JVM_OVERHEAD_MIB + 4 * SLOT_MIB
    assert needed == 3712
    with pytest.raises(SizingError, match=r"'x1\.little' has 4 vCPUs and 4096 MiB.* gets 2176 MiB; it needs 3712"):
        size_executor([node("c7g.2xlarge"), little])


def test_driver_needs_half_of_a_primary_node_with_at_least_ten_gib() -> None:
    check_driver(node("m7g.xlarge"))
    assert node("m7g.xlarge").memory_mib >= 2 * DRIVER_HEAP_MIB
    with pytest.raises(SizingError, match=r"'c7g\.xlarge' has 8192 MiB; expected 10240 or more"):
        check_driver(node("c7g.xlarge"))


def test_single_node_leaves_room_for_driver_daemons_and_application_master() -> None:
    """Of 16384 MiB, 10240 are for the driver and the daemons, and 896 for the application master; of m7g.2xlarge's
    32768, two executors get 10816 each."""
    assert size_single_node(node("m7g.xlarge")) == Capacity(Executor(4, 1024, 4224), 1)
    assert size_single_node(node("m7g.2xlarge")) == Capacity(Executor(4, 1024, 9792), 2)
    fitting = 0
    for name, type_ in instance_types().items():
        try:
            capacity = size_single_node(type_)
        except SizingError:
            continue
        fitting += 1
        container = capacity.executor.heap_mib + capacity.executor.overhead_mib
        used = capacity.executors * container + AM_MIB
        assert used <= yarn_mib(type_), name
        assert used + 2 * DRIVER_MIB <= type_.memory_mib, name
        assert container % 32 == 0, name
        assert capacity.executor.slot_mib >= SLOT_MIB, name
        assert 1 <= capacity.vcpus <= type_.vcpus, name
    assert fitting > 300


def test_single_node_with_little_memory_has_fewer_executors_than_cores() -> None:
    """c7g.2xlarge has 8 vCPUs, but memory for one executor of 4 beside the driver."""
    assert size_single_node(node("c7g.2xlarge")).vcpus == 4
    with pytest.raises(SizingError, match=r"'c7g\.xlarge' has 8192 MiB, .*min_worker_nodes of 1 or more"):
        size_single_node(node("c7g.xlarge"))


def test_capacity_of_workers_counts_units() -> None:
    types = [node("c7g.2xlarge"), node("c7g.4xlarge")]
    capacity = find_capacity(Size(2, 3), node("m7g.xlarge"), types)
    assert (capacity.vcpus, capacity.executors, capacity.executor) == (40, 10, size_executor(types))


def test_weight_is_in_units_of_the_smallest_type() -> None:
    for vcpus, unit, units in ((8, 8, 1), (16, 8, 2), (36, 8, 4), (4, 8, 1)):
        assert weight(InstanceType("x", vcpus, 1, "arm64", "a"), unit) == units
