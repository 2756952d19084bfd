"""The size of a cluster: by hand, and the properties that hold for any work, rates and limits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from include.cluster.planning import WORTH_A_NODE_SECONDS, SizePlan, Work, plan_size
from include.cluster.rates import ASSUMED, Rates
from include.cluster.sizing import Size
from include.settings.parameters import RunParams
from spark_jobs.args import FeaturizeArgs

RATES = Rates(100.0, 20e-6, 900.0, "the tests")
PARAMS = RunParams()


def plan(images: int = 0, listed: int | None = None, bytes_: int = 0, rates: Rates = RATES, **params: int) -> SizePlan:
    work = Work(images, bytes_, images if listed is None else listed)
    return plan_size(work, replace(PARAMS, **params), rates)  # type: ignore[arg-type]


def test_small_day_is_done_by_the_primary_node_alone() -> None:
    """10,000 photos at 100 a second on each of 4 vCPUs: 25 s, in a cluster that takes 15 minutes to start and stop."""
    found = plan(10_000, listed=1_000_000)
    assert found.size == Size(0, 0)
    assert found.vcpus == 4
    assert found.featurize_seconds == 25.0
    assert found.pca_seconds == 20.0
    assert found.seconds == 945.0
    assert found.meets_deadline


def test_big_day_gets_as_many_nodes_as_the_deadline_needs() -> None:
    """5 million photos in 60 - 15 min, less 100 s for pca: 50,000 s of a vCPU in 2,600 s are 20 vCPUs, 3 nodes of 8."""
    found = plan(5_000_000)
    assert found.size == Size(2, 1), "two on demand, the others spot"
    assert found.meets_deadline
    assert not plan(5_000_000, max_worker_nodes=2).meets_deadline
    assert plan(5_000_000, deadline_minutes=150).size == Size(1, 0)


def test_bytes_count_as_the_job_counts_them() -> None:
    """A full task of the job is 12,000 tiny photos, or 4 GiB."""
    assert plan(bytes_=FeaturizeArgs.bytes_per_task).featurize_seconds == plan(12_000).featurize_seconds == 30.0
    small, camera = (plan(1_000_000, bytes_=size * 1_000_000) for size in (5_000, 3_500_000))
    assert (small.size, camera.size) == (Size(0, 0), Size(2, 4)), "photos of 3.5 MB are 11 times the work"


def test_equal_limits_give_a_cluster_of_fixed_size() -> None:
    for images in (0, 100, 10**9):
        assert plan(images, min_worker_nodes=4, max_worker_nodes=4).size == Size(2, 2)
        assert plan(images, min_worker_nodes=7, max_worker_nodes=7, max_core_nodes=7).size == Size(7, 0)
        assert plan(images, min_worker_nodes=0, max_worker_nodes=0).size == Size(0, 0)


def test_deadline_shorter_than_the_start_of_a_cluster_does_not_buy_nodes() -> None:
    found = plan(100, deadline_minutes=5)
    assert found.size == Size(0, 0)
    assert not found.meets_deadline


def test_large_primary_node_is_preferred_to_small_workers() -> None:
    params = replace(PARAMS, master_instance_type="m7g.4xlarge", core_instance_types=("c7g.xlarge",))
    assert plan_size(Work(4_000_000, 0, 0), params, RATES).size == Size(0, 0)


works = st.builds(Work, st.integers(0, 10**8), st.integers(0, 10**15), st.integers(0, 10**8))
rates = st.builds(
    Rates,
    st.floats(0.1, 1e4),
    st.floats(0, 1e-3),
    st.floats(60, 7200),
    st.just("any"),
)
limits = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30), st.integers(1, 1440)).map(
    lambda drawn: {
        "min_worker_nodes": min(drawn[:2]),
        "max_worker_nodes": max(drawn[:2]),
        "max_core_nodes": drawn[2],
        "deadline_minutes": drawn[3],
    }
)


def fixed(work: Work, params: RunParams, speed: Rates, workers: int) -> SizePlan:
    return plan_size(work, replace(params, min_worker_nodes=workers, max_worker_nodes=workers), speed)


@settings(max_examples=60, deadline=None)
@given(works, rates, limits)
def test_plan_is_within_its_limits_and_the_smallest_that_meets_the_deadline(
    work: Work, speed: Rates, drawn: dict[str, int]
) -> None:
    params = replace(PARAMS, **drawn)  # type: ignore[arg-type]
    found = plan_size(work, params, speed)
    workers = found.size.worker_nodes
    assert params.min_worker_nodes <= workers <= params.max_worker_nodes
    assert found.size.core_nodes == min(workers, params.max_core_nodes)
    others = [fixed(work, params, speed, n) for n in range(params.min_worker_nodes, params.max_worker_nodes + 1)]
    deadline = params.deadline_minutes * 60
    fastest = min(other.seconds for other in others)
    assert found.meets_deadline == (found.seconds <= deadline)
    if fastest <= deadline - WORTH_A_NODE_SECONDS:
        assert found.meets_deadline
    if not found.meets_deadline:
        assert found.seconds <= fastest + WORTH_A_NODE_SECONDS
    smaller = [other for other in others if other.size.worker_nodes < workers]
    assert not any(other.meets_deadline for other in smaller)


@settings(max_examples=60, deadline=None)
@given(works, works, rates, limits)
def test_more_work_never_gets_a_smaller_cluster(work: Work, more: Work, speed: Rates, drawn: dict[str, int]) -> None:
    params = replace(PARAMS, **drawn)  # type: ignore[arg-type]
    total = Work(work.images + more.images, work.bytes + more.bytes, work.listed + more.listed)
    found, larger = plan_size(work, params, speed), plan_size(total, params, speed)
    assume(abs(found.seconds - larger.seconds) > 1e-6)
    assert larger.size.worker_nodes >= found.size.worker_nodes
    assert larger.seconds >= found.seconds or larger.size != found.size


@settings(max_examples=40, deadline=None)
@given(works, rates, limits, st.integers(1, 600))
def test_more_time_never_gets_a_larger_cluster(work: Work, speed: Rates, drawn: dict[str, int], minutes: int) -> None:
    params = replace(PARAMS, **drawn)  # type: ignore[arg-type]
    later = replace(params, deadline_minutes=params.deadline_minutes + minutes)
    assert plan_size(work, later, speed).size.worker_nodes <= plan_size(work, params, speed).size.worker_nodes


def test_assumed_rates_say_so() -> None:
    assert "assumption" in plan(1, rates=ASSUMED).rates.source


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_default_types_can_be_a_single_node(architecture: str) -> None:
    params = RunParams.for_architecture(architecture)  # type: ignore[arg-type]
    assert plan_size(Work(1, 1, 1), params, RATES).vcpus == 4
