"""The forecast against sums computed by hand, and a cap that fails closed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from include.cluster.planning import Work, plan_size
from include.cluster.rates import ASSUMED, Rates
from include.cost.forecast import CostCapError, check_cap, describe_forecast, forecast_cost
from include.cost.money import describe_amount
from include.settings.deployment import SettingsError, read_settings
from include.settings.form import run_params
from include.settings.parameters import RunParams
from tests.include.price_tables import instances_without, prices

# Four nodes of 8 vCPUs at 10 images/s each: 320 images/s.
RATES = Rates(10.0, 0.0001, 480.0, "the tests")
PARAMS = RunParams(
    core_instance_types=("c7g.2xlarge", "c6g.2xlarge"), ebs_gib=42, min_worker_nodes=4, max_worker_nodes=4
)
IMAGES = 1_000_000
SECONDS = 480 + IMAGES / 320 + 100


def forecast(**changes: Any) -> dict[str, Any]:
    """The forecast of a run that computes all images, unless ``computed`` says how many."""
    arguments: dict[str, Any] = {"prices": prices(), "params": PARAMS, "images": IMAGES, "rates": RATES} | changes
    params, images = arguments["params"], arguments["images"]
    work = Work(arguments.get("computed", images), 0, images)
    return forecast_cost(arguments["prices"], params, plan_size(work, params, arguments["rates"]))  # type: ignore[return-value]


def test_expected_cost_equals_a_sum_computed_by_hand() -> None:
    """Between c6g everywhere (spot 0.12) and c7g everywhere (spot at most its price on demand)."""
    hours = SECONDS / 3600
    requests = 1000 * 0.0004 + 1 * 0.005
    low = hours * ((0.20 + 0.05 + 0.01) + 2 * (0.30 + 0.08 + 0.01) + 2 * (0.10 + 0.01)) + requests
    high = hours * ((0.20 + 0.05 + 0.01) + 2 * (0.40 + 0.10 + 0.01) + 2 * (0.40 + 0.10 + 0.01)) + requests
    found = forecast()
    assert found["expected"]["seconds"] == SECONDS == 3705
    assert found["expected"]["usd"] == {"low": pytest.approx(low, abs=6e-5), "high": pytest.approx(high, abs=6e-5)}
    assert found["expected"]["eur"]["high"] == pytest.approx(high / 2, abs=6e-5)
    assert found["unknown"] == []
    assert json.loads(json.dumps(found)) == found


def test_worst_case_reaches_every_limit() -> None:
    params = replace(PARAMS, core_instance_types=("c7g.2xlarge",), min_worker_nodes=2, max_worker_nodes=2)
    worst = forecast(params=params, computed=0)["worst"]
    assert worst["seconds"] == 480 + 2 * 180 * 60 + 15 * 60 == 22_980
    usd = 22_980 / 3600 * (0.26 + 2 * 0.51)
    assert worst["usd"] == {"low": pytest.approx(usd, abs=6e-5), "high": pytest.approx(usd, abs=6e-5)}


def test_expected_duration_never_exceeds_the_worst_case() -> None:
    found = forecast(images=10**12)
    assert found["expected"]["seconds"] == found["worst"]["seconds"]


def test_fleet_of_larger_nodes_has_fewer_nodes() -> None:
    """A node of 16 vCPUs is worth two units of 8."""
    on_demand = {"m7g.xlarge": 0.2, "c7g.2xlarge": 0.4, "c7g.4xlarge": 0.5}
    instances = {name: {"on_demand_usd_per_hour": price, "emr_usd_per_hour": 0} for name, price in on_demand.items()}
    params = replace(
        PARAMS,
        core_instance_types=("c7g.2xlarge", "c7g.4xlarge"),
        min_worker_nodes=3,
        max_worker_nodes=3,
        max_core_nodes=3,
    )
    found = forecast(params=params, computed=0, prices=prices(instances=instances, ebs_usd_per_gib_month={"gp3": 0}))
    hours = found["worst"]["seconds"] / 3600
    assert found["worst"]["usd"]["low"] == pytest.approx(hours * (0.2 + 2 * 0.5), abs=6e-5)
    assert found["worst"]["usd"]["high"] == pytest.approx(hours * (0.2 + 3 * 0.4), abs=6e-5)


def test_single_node_costs_its_primary_node_only() -> None:
    found = forecast(params=replace(PARAMS, min_worker_nodes=0, max_worker_nodes=0), computed=0)
    usd = 580 / 3600 * 0.26
    assert found["expected"]["usd"] == {"low": pytest.approx(usd, abs=6e-5), "high": pytest.approx(usd, abs=6e-5)}
    assert not any("spot" in assumption for assumption in found["assumptions"])


def test_assumptions_are_listed() -> None:
    text = " ".join(forecast()["assumptions"])
    assert "rates from the tests" in text
    assert "32 vCPUs" in text
    assert "spot instances count from 0 to the on-demand price" in text
    assert "15 minutes to start and stop the cluster are an assumption" in " ".join(
        forecast(rates=ASSUMED)["assumptions"]
    )


def test_day_with_few_new_images_computes_these_and_reads_all_in_pca() -> None:
    found = forecast(computed=3_200)
    assert found["images"] == 3_200
    assert found["expected"]["seconds"] == 480 + 10 + 100
    hours, requests = 590 / 3600, 3.2 * 0.0004 + 0.0032 * 0.005
    high = hours * ((0.20 + 0.05 + 0.01) + 2 * (0.40 + 0.10 + 0.01) + 2 * (0.40 + 0.10 + 0.01)) + requests
    assert found["expected"]["usd"]["high"] == pytest.approx(high, abs=6e-5)
    assert describe_forecast(found).startswith(
        f"{describe_amount(found['expected']['eur'])} in 10 min for 3,200 images"
    )
    nothing = forecast(computed=0)
    assert (nothing["images"], nothing["expected"]["seconds"]) == (0, 580)


def test_cap_permits_cheaper_runs_and_stops_more_expensive_ones() -> None:
    found = forecast()
    high = found["expected"]["eur"]["high"]
    check_cap(found, None)
    check_cap(found, high)
    with pytest.raises(CostCapError, match=r"max_cost_eur=1: the forecast \(expected case\) is .* €.*Raise the cap"):
        check_cap(found, 1.0)
    assert found["expected"]["eur"]["low"] < 1.0 < high, "what it may cost counts, not what it might"


def test_unknown_price_stops_a_run_with_any_cap() -> None:
    for changes, unknown in (
        ({"instances": instances_without("c7g.2xlarge", "emr_usd_per_hour")}, "EMR's surcharge on c7g.2xlarge"),
        ({"instances": instances_without("m7g.xlarge", "on_demand_usd_per_hour")}, "EC2's price of m7g.xlarge"),
        ({"ebs_usd_per_gib_month": {}}, "EBS's price of gp3"),
        ({"s3_usd": {}}, "S3's price of requests"),
        ({"instances": {}}, "EC2's price of m7g.xlarge"),
    ):
        found = forecast(prices=prices(**changes))
        assert unknown in found["unknown"]
        assert found["expected"]["eur"]["high"] is None
        assert "UNKNOWN, never guessed" in describe_forecast(found)
        check_cap(found, None)
        with pytest.raises(CostCapError, match=f"these prices are unknown: .*{unknown}.*FRUITS_PRICE_TABLE"):
            check_cap(found, 1e9)


def test_cap_of_the_deployment_is_the_default_of_the_form() -> None:
    for text, euros in {"25": 25.0, "0.5": 0.5, "none": None, "": None}.items():
        settings = read_settings({"FRUITS_MAX_COST_EUR": text})
        assert settings.max_cost_eur == euros
        assert run_params(max_cost_eur=settings.max_cost_eur)["max_cost_eur"].resolve() == euros


def test_cap_that_is_not_a_positive_amount_is_refused() -> None:
    for text in ("0", "-1", "nan", "inf", "25 €", "plenty"):
        with pytest.raises(SettingsError, match=r"FRUITS_MAX_COST_EUR=.*a number of euros greater than 0"):
            read_settings({"FRUITS_MAX_COST_EUR": text})
