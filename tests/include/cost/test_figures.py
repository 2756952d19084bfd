"""Plan and outcome of a run: by hand, in the same figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from include.cluster.planning import SizePlan, Work, plan_size
from include.cluster.rates import Rates
from include.cost.figures import describe_outcome, describe_plan, measure_figures, plan_figures
from include.cost.forecast import forecast_cost
from include.records import ClusterFigures, ClusterPlan, Sizing
from include.settings.parameters import RunParams
from tests.include.price_tables import prices
from tests.include.run_records import (
    cost_record,
    counts_record,
    featurize_summary,
    pca_summary,
    sizing_record,
)

RATES = Rates(100.0, 20e-6, 900.0, "the tests")
PARAMS = RunParams(core_instance_types=("c7g.2xlarge",), ebs_gib=42)
NODE_USD = 0.20 + 0.05 + 0.01
"""An hour of the primary node: EC2, EMR, and 72 GiB of EBS for an hour of a month."""


def planned(images: int, listed: int = 1_000_000, **params: Any) -> tuple[SizePlan, ClusterPlan]:
    changed = replace(PARAMS, **params)
    size_plan = plan_size(Work(images, 0, listed), changed, RATES)
    return size_plan, plan_figures(size_plan, forecast_cost(prices(), changed, size_plan))


def test_records_have_their_fields() -> None:
    record = sizing_record()
    assert set(record) == set(Sizing.__annotations__)
    assert set(record["plan"]) == set(ClusterPlan.__annotations__)
    assert set(record["outcome"]) == set(ClusterFigures.__annotations__)


def test_plan_of_a_small_day_by_hand() -> None:
    """40,000 photos on 4 vCPUs: 100 s, and 20 s of pca; the rest of 1020 s is start and stop."""
    _, plan = planned(40_000)
    usd = 1020 / 3600 * NODE_USD + 40 * 0.0004 + 0.04 * 0.005
    eur = usd / 2
    assert (plan["core_nodes"], plan["task_nodes"], plan["vcpus"]) == (0, 0, 4)
    assert (plan["seconds"], plan["start_and_stop_seconds"]) == (1020.0, 900.0)
    assert plan["images_per_second_per_vcpu"] == 100.0
    assert plan["eur"] == {"low": pytest.approx(eur, abs=6e-5), "high": pytest.approx(eur, abs=6e-5)}
    assert plan["start_and_stop_eur"]["high"] == pytest.approx(eur * 900 / 1020, abs=1e-4)  # type: ignore[index]
    assert plan["eur_per_image"]["high"] == pytest.approx(eur / 40_000, rel=1e-3)  # type: ignore[index]
    margin = plan["eur_per_image_at_the_margin"]["high"]  # type: ignore[index]
    assert margin == pytest.approx(eur * 100 / 1020 / 40_000, rel=1e-3)


def test_plan_is_described_with_images_nodes_minutes_euros_and_their_part_for_start_and_stop() -> None:
    assert describe_plan(planned(40_000)[1]) == (
        "40,000 of 1,000,000 images (0.0 MB) to compute: the primary node alone, 4 vCPUs; "
        "17 min, 15 of them to start and stop; 0.04 €, 0.04 € of it to start and stop; "
        "the deadline of 60 min is met"
    )
    large = describe_plan(planned(50_000_000, max_worker_nodes=5)[1])
    assert "a primary node, 2 core nodes and 3 spot task nodes, 40 vCPUs" in large
    assert "the deadline of 60 min is MISSED" in large


def test_day_without_photos_to_compute_has_no_cost_per_image() -> None:
    _, plan = planned(0)
    assert plan["images_per_second_per_vcpu"] is None
    assert plan["eur_per_image"] is plan["eur_per_image_at_the_margin"] is None
    assert plan["eur"]["high"] > 0  # type: ignore[index]
    assert "0 of 1,000,000 images" in describe_plan(plan)


def measured(cost: Any, **featurize: Any) -> ClusterFigures:
    _, plan = planned(40_000)
    seconds = {"start": 9.0, "list": 1.0, "featurize": 180.0, "write": 20.0, "total": 210.0}
    summary = featurize_summary(featurized=40_000, seconds=seconds, **featurize)
    pca = pca_summary(images=990_000, seconds={"start": 5.0, "moments": 1.0, "scores": 25.0, "csv": 4.0, "total": 40.0})
    return measure_figures(plan, counts_record(work_bytes=123), summary, pca, cost)  # type: ignore[arg-type]


def test_outcome_by_hand() -> None:
    """The primary node lived for an hour: 200 s of featurize, 30 s of pca, the rest is start and stop."""
    cost = cost_record(images=40_000)
    found = measured(cost)
    assert (found["images"], found["bytes"], found["listed"], found["vcpus"]) == (40_000, 123, 990_000, 4)
    assert found["images_per_second_per_vcpu"] == pytest.approx(40_000 / 200 / 4)
    assert (found["featurize_seconds"], found["pca_seconds"]) == (200.0, 30.0)
    assert (found["seconds"], found["start_and_stop_seconds"]) == (3600.0, 3370.0)
    high = cost["eur"]["high"]
    assert found["eur"] == cost["eur"]
    assert found["start_and_stop_eur"]["high"] == pytest.approx(high * 3370 / 3600, abs=1e-4)  # type: ignore[index]
    assert found["eur_per_image"]["high"] == pytest.approx(high / 40_000, rel=1e-6)  # type: ignore[index]
    margin = found["eur_per_image_at_the_margin"]["high"]  # type: ignore[index]
    assert margin == pytest.approx(high * 200 / 3600 / 40_000, rel=1e-6)


def test_without_a_cost_or_with_several_clusters_the_lifetime_is_unknown() -> None:
    cost = cost_record()
    twice = [fleet | {"instances": 2} if fleet["fleet"] == "MASTER" else fleet for fleet in cost["fleets"]]
    for unknown in (None, cost | {"fleets": twice}, cost | {"fleets": []}):
        found = measured(unknown)
        assert found["seconds"] is found["start_and_stop_seconds"] is None
        assert found["start_and_stop_eur"] is found["eur_per_image_at_the_margin"] is None
        assert found["images_per_second_per_vcpu"] == pytest.approx(50.0), "the jobs measured it"
        assert describe_outcome(found, planned(40_000)[1]).startswith("unknown min (planned 17)")


def test_outcome_is_described_beside_the_plan() -> None:
    assert describe_outcome(measured(cost_record()), planned(40_000)[1]) == (
        "60 min (planned 17); 56 min to start and stop (planned 15); 50.0 images/s per vCPU (planned 100.0); "
        "0.69 € (planned 0.04 €)"
    )
