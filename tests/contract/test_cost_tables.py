"""The tables of docs/cost.md: up to date, and their figures by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from include.cluster.planning import Work, plan_size
from include.cluster.rates import ASSUMED
from scripts import write_cost_tables as tables


def test_tables_are_up_to_date() -> None:
    assert tables.main(["--check"]) == 0, "run `make docs`, and read the diff"


def test_small_day_by_hand() -> None:
    """16 minutes of m7g.xlarge with its assumed surcharge and 62 GiB of gp3; 10,000 requests; 0.8951 euros a dollar."""
    (*_, nodes, minutes, waiting, eur, _, _, fixed, _) = tables.describe_day(
        tables.example_prices(), 1_000_000, 10_000, 5_000
    )
    seconds = 900 + 10_000 * (1 + 5_000 * 12_000 / 2**32) / (214.03 / 2 * 4) + 24 * 1.01
    hour = 0.1904 * 1.25 + 62 * 0.10 / 720
    assert (nodes, minutes, waiting) == ("primary node alone", f"{seconds / 60:.0f}", "15")
    requests = 10 * 0.00042 + 0.01 * 0.0053
    assert eur == f"{(seconds / 3600 * hour + requests) * 0.8951:.2f}"
    assert float(fixed) > 7 * float(eur)


def test_year_has_the_promised_days_and_the_same_ones_every_time() -> None:
    days = tables.draw_year()
    assert days == tables.draw_year() != tables.draw_year(1)
    assert len(days) == 365
    assert days.count(1_000_000) == 1
    assert days.count(0) > 100
    assert sum(20_000 <= new < 100_000 for new in days) > 20


def test_year_of_planned_clusters_has_the_same_photos_for_less() -> None:
    prices = tables.example_prices()
    planned, fixed = (tables.simulate_year(prices, params, 5_000) for params in (tables.PLANNED, tables.FIXED))
    assert planned.runs == fixed.runs == sum(new > 0 for new in tables.draw_year())
    assert planned.photos == fixed.photos == sum(tables.draw_year())
    assert planned.eur < fixed.eur


@pytest.mark.parametrize("images", [100, 10**5, 10**6, 3 * 10**6, 10**7, 15 * 10**6])
def test_smallest_cluster_is_the_cheapest_one_with_the_default_deadline(images: int) -> None:
    prices, params, work = tables.example_prices(), tables.PLANNED, Work(images, 5_000 * images, images)
    plan = plan_size(work, params, ASSUMED)
    assert plan.meets_deadline
    sizes = (
        plan_size(work, replace(params, min_worker_nodes=n, max_worker_nodes=n), ASSUMED)
        for n in range(params.max_worker_nodes + 1)
    )
    costs = [tables.run(prices, params, size).eur for size in sizes if size.meets_deadline]
    assert tables.run(prices, params, plan).eur == min(costs)
