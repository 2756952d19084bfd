"""What a run has cost: sums made by hand, and what is not known said."""

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


def test_cost_is_the_sum_that_a_hand_makes() -> None:
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


def test_fleets_and_markets_are_told_apart() -> None:
    rows = {(row["fleet"], row["market"]): row for row in cost()["fleets"]}
    assert set(rows) == {("MASTER", "ON_DEMAND"), ("CORE", "ON_DEMAND"), ("TASK", "SPOT")}
    assert rows["CORE", "ON_DEMAND"]["usd"] == exactly(CORE)
    assert rows["CORE", "ON_DEMAND"]["hours"] == 2.0
    assert rows["TASK", "SPOT"]["eur"] == exactly(TASK / 2)
    assert rows["TASK", "SPOT"]["instances"] == 1


def test_fall_back_of_the_task_fleet_is_counted_in_its_own_market() -> None:
    fallen = [*INSTANCES, instance("TASK", "c7g.2xlarge", 3600)]
    rows = {(row["fleet"], row["market"]): row["usd"] for row in cost(instances=fallen)["fleets"]}
    assert rows["TASK", "SPOT"] == exactly(TASK)
    assert rows["TASK", "ON_DEMAND"] == exactly(CORE / 2)


def test_storage_is_a_months_and_not_in_the_sum() -> None:
    assert cost()["storage"]["usd_per_month"] == exactly(50 * 0.02)
    assert cost()["storage"]["eur_per_month"] == exactly(50 * 0.02 / 2)
    assert cost(stored_bytes=0)["usd"] == cost()["usd"]


def test_bytes_that_nobody_has_counted_are_unknown() -> None:
    found = cost(stored_bytes=None)
    assert found["storage"]["usd_per_month"] == {"low": 0.0, "high": None}
    assert found["unknown"] == ["the run's bytes in the lake"]
    assert found["complete"] is True, "storage is not in the sum"


@pytest.mark.parametrize(("seconds", "billed"), [(0, 60), (1, 60), (59, 60), (60, 60), (61, 61), (-5, 60)])
def test_billing_is_by_the_second_with_a_minimum_of_a_minute(seconds: float, billed: float) -> None:
    found = cost(instances=[instance("MASTER", "m7g.xlarge", seconds)], images=0)
    assert found["usd"] == exactly(MASTER * billed / 3600)


def test_instance_without_an_end_counts_until_now_and_is_told() -> None:
    found = cost(instances=[instance("MASTER", "m7g.xlarge", None)], images=0)
    assert found["usd"] == exactly(2 * MASTER)
    assert "1 instances had not ended at 2026-11-22T14:00:00+00:00: counted until then" in found["notes"]


def test_instance_that_never_started_costs_nothing_and_is_told() -> None:
    asked = instance("TASK", "c6g.2xlarge", None, "SPOT")
    asked["Status"]["Timeline"] = {}
    found = cost(instances=[*INSTANCES, asked, {"Id": "ci", "InstanceType": "x", "Status": None}])
    assert found["usd"] == cost()["usd"]
    assert "2 instances were asked for and never started: not counted" in found["notes"]


def test_spot_without_a_price_is_between_nothing_and_the_price_on_demand() -> None:
    found = cost(prices=prices(instances=instances_without("c6g.2xlarge", "spot_usd_per_hour")))
    rest = MASTER + CORE + REQUESTS + (0.08 + 0.01) / 2
    assert found["usd"]["low"] == pytest.approx(rest, abs=6e-5)
    assert found["usd"]["high"] == pytest.approx(rest + 0.30 / 2, abs=6e-5)
    assert any("spot at no more than the on-demand price" in note for note in found["notes"])
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
def test_unknown_price_is_named_and_the_known_part_is_no_total(
    changes: dict[str, Any], unknown: list[str], known: float
) -> None:
    found = cost(prices=prices(**changes))
    assert found["unknown"] == unknown
    assert found["usd"] == {"low": pytest.approx(known, abs=6e-5), "high": None}
    assert found["complete"] is False
    assert found["images_per_eur"]["low"] is None
    line = describe_cost(found)
    assert f"at least {known / 2:.2f} €" in line
    assert f"UNKNOWN, not guessed: {', '.join(unknown)}" in line


def test_cluster_of_which_emr_tells_nothing_is_not_said_to_be_free() -> None:
    found = cost(instances=[], fleets=[], images=0)
    assert "EMR tells of no instance" in found["notes"]
    assert found["images_per_eur"] == {"low": None, "high": None}


def test_volumes_that_emr_does_not_tell_are_said_to_be_missing() -> None:
    found = cost(cluster={"Id": "j-1"}, fleets=[fleet("MASTER"), *FLEETS[1:]])
    assert "EMR tells of no volume of some instances: their EBS is not counted" in found["notes"]


def test_instances_of_groups_are_counted_too() -> None:
    member = instance("MASTER", "m7g.xlarge", 3600) | {"InstanceGroupId": "ig-1"}
    del member["InstanceFleetId"]
    found = cost(instances=[member], fleets=[], images=0)
    assert [row["fleet"] for row in found["fleets"]] == ["no fleet"]
    assert found["usd"]["low"] == pytest.approx(0.25)


def test_line_for_the_log_says_the_essentials() -> None:
    line = describe_cost(cost())
    assert line.startswith("0.69 € (1.39 USD) for 10,000 images (14,398 a euro); 3.50 instance hours; ")
    assert line.endswith("storage 0.50 € a month; prices of 2026-11-02")
