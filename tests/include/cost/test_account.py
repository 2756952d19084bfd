"""The cost of a run against sums computed by hand; unknown prices are reported."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include.cost.account import account_cost, describe_cost
from tests.include.cluster_answers import CLUSTER, FLEETS, INSTANCES, NOW, fleet, instance
from tests.include.price_tables import instances_without, prices

GIB = 2**30
# By hand, in USD. Volumes: 30 GiB root and 42 GiB, 72 GiB at 0.10 a month of 720 hours are 0.01 an hour.
MASTER = 0.20 + 0.05 + 0.01
CORE = 2 * (0.40 + 0.10 + 0.01)
TASK = (0.12 + 0.08 + 0.01) / 2
REQUESTS = 10_000 / 1000 * 0.0004 + 10 / 1000 * 0.005


def cost(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "prices": prices(),
        "cluster": CLUSTER,
        "instances": INSTANCES,
        "fleets": FLEETS,
        "stored_bytes": 50 * GIB,
        "images": 10_000,
        "now": NOW,
    }
    return account_cost(**(arguments | changes))


def exactly(value: float) -> dict[str, float]:
    return {"low": pytest.approx(value, abs=6e-5), "high": pytest.approx(value, abs=6e-5)}


def test_cost_equals_a_sum_computed_by_hand() -> None:
    found = cost()
    usd = MASTER + CORE + TASK + REQUESTS
    assert usd == pytest.approx(1.38905)
    assert found["usd"] == exactly(usd)
    assert found["eur"] == exactly(usd / 2)
    assert found["complete"] is True
    assert found["unknown"] == found["notes"] == []
    assert found["instance_hours"] == 3.5
    assert found["images_per_eur"] == {"low": round(10_000 / (usd / 2), 1), "high": round(10_000 / (usd / 2), 1)}
    assert json.loads(json.dumps(found)) == found, "it goes into the manifest"


def test_cost_is_split_by_fleet_and_market() -> None:
    rows = {(row["fleet"], row["market"]): row for row in cost()["fleets"]}
    assert set(rows) == {("MASTER", "ON_DEMAND"), ("CORE", "ON_DEMAND"), ("TASK", "SPOT")}
    assert rows["CORE", "ON_DEMAND"]["usd"] == exactly(CORE)
    assert rows["CORE", "ON_DEMAND"]["hours"] == 2.0
    assert rows["TASK", "SPOT"]["eur"] == exactly(TASK / 2)
    assert rows["TASK", "SPOT"]["instances"] == 1


def test_on_demand_fallback_of_the_task_fleet_is_counted_in_its_own_market() -> None:
    fallen = [*INSTANCES, instance("TASK", "c7g.2xlarge", 3600)]
    rows = {(row["fleet"], row["market"]): row["usd"] for row in cost(instances=fallen)["fleets"]}
    assert rows["TASK", "SPOT"] == exactly(TASK)
    assert rows["TASK", "ON_DEMAND"] == exactly(CORE / 2)


def test_storage_is_per_month_and_not_part_of_the_total() -> None:
    assert cost()["storage"]["usd_per_month"] == exactly(50 * 0.02)
    assert cost()["storage"]["eur_per_month"] == exactly(50 * 0.02 / 2)
    assert cost(stored_bytes=0)["usd"] == cost()["usd"]


def test_unknown_size_gives_an_unknown_storage_cost() -> None:
    found = cost(stored_bytes=None)
    assert found["storage"]["usd_per_month"] == {"low": 0.0, "high": None}
    assert found["unknown"] == ["the size of the run's files in the lake"]
    assert found["complete"] is True, "storage is not in the sum"


def test_billing_is_per_second_with_a_minimum_of_one_minute() -> None:
    for seconds, billed in {0: 60, 1: 60, 59: 60, 60: 60, 61: 61, -5: 60}.items():
        found = cost(instances=[instance("MASTER", "m7g.xlarge", seconds)], images=0)
        assert found["usd"] == exactly(MASTER * billed / 3600), seconds


def test_running_instance_counts_until_now_and_is_reported() -> None:
    found = cost(instances=[instance("MASTER", "m7g.xlarge", None)], images=0)
    assert found["usd"] == exactly(2 * MASTER)
    assert "1 instances were still running at 2026-11-22T14:00:00+00:00: counted until then" in found["notes"]


def test_instance_that_never_started_costs_nothing_and_is_reported() -> None:
    asked = instance("TASK", "c6g.2xlarge", None, "SPOT")
    asked["Status"]["Timeline"] = {}
    found = cost(instances=[*INSTANCES, asked, {"Id": "ci", "InstanceType": "x", "Status": None}])
    assert found["usd"] == cost()["usd"]
    assert "2 requested instances never started: not counted" in found["notes"]


def test_spot_without_a_price_costs_between_0_and_the_on_demand_price() -> None:
    found = cost(prices=prices(instances=instances_without("c6g.2xlarge", "spot_usd_per_hour")))
    rest = MASTER + CORE + REQUESTS + (0.08 + 0.01) / 2
    assert found["usd"]["low"] == pytest.approx(rest, abs=6e-5)
    assert found["usd"]["high"] == pytest.approx(rest + 0.30 / 2, abs=6e-5)
    assert any("spot instances count from 0 to the on-demand price" in note for note in found["notes"])
    assert found["unknown"] == []
    assert found["images_per_eur"]["low"] < found["images_per_eur"]["high"]


@pytest.mark.parametrize(
    ("changes", "unknown", "known"),
    [
        (
            {"instances": instances_without("c7g.2xlarge", "emr_usd_per_hour")},
            ["EMR's surcharge on c7g.2xlarge"],
            MASTER + CORE + TASK + REQUESTS - 0.20,
        ),
        (
            {"instances": instances_without("c7g.2xlarge", "on_demand_usd_per_hour")},
            ["EC2's price of c7g.2xlarge"],
            MASTER + CORE + TASK + REQUESTS - 0.80,
        ),
        ({"ebs_usd_per_gib_month": {}}, ["EBS's price of gp3"], MASTER + CORE + TASK + REQUESTS - 0.035),
        (
            {"s3_usd": {}},
            ["S3's price of requests", "S3's price of storage"],
            MASTER + CORE + TASK,
        ),
        (
            {"instances": {}},
            [
                f"{what} {name}"
                for name in ("m7g.xlarge", "c7g.2xlarge", "c6g.2xlarge")
                for what in ("EC2's price of", "EMR's surcharge on")
            ],
            REQUESTS + 0.035,
        ),
    ],
)
def test_unknown_price_is_named_and_leaves_only_a_lower_bound(
    changes: dict[str, Any], unknown: list[str], known: float
) -> None:
    found = cost(prices=prices(**changes))
    assert found["unknown"] == unknown
    assert found["usd"] == {"low": pytest.approx(known, abs=6e-5), "high": None}
    assert found["complete"] is False
    assert found["images_per_eur"]["low"] is None
    line = describe_cost(found)
    assert f"at least {known / 2:.2f} €" in line
    assert f"UNKNOWN, never guessed: {', '.join(unknown)}" in line


def test_cluster_without_reported_instances_is_not_reported_as_free() -> None:
    found = cost(instances=[], fleets=[], images=0)
    assert "EMR reports no instances" in found["notes"]
    assert found["images_per_eur"] == {"low": None, "high": None}


def test_missing_volumes_are_reported() -> None:
    found = cost(cluster={"Id": "j-1"}, fleets=[fleet("MASTER"), *FLEETS[1:]])
    assert "EMR reports no volumes for some instances: their EBS cost is not counted" in found["notes"]


def test_instances_of_groups_are_counted_too() -> None:
    member = instance("MASTER", "m7g.xlarge", 3600) | {"InstanceGroupId": "ig-1"}
    del member["InstanceFleetId"]
    found = cost(instances=[member], fleets=[], images=0)
    assert [row["fleet"] for row in found["fleets"]] == ["no fleet"]
    assert found["usd"]["low"] == pytest.approx(0.25)


def test_log_line_has_cost_rate_hours_storage_and_date() -> None:
    line = describe_cost(cost())
    assert line.startswith("0.69 € (1.39 USD) for 10,000 images (14,398 per euro); 3.50 instance hours; ")
    assert line.endswith("storage 0.50 € per month; prices of 2026-11-02")
