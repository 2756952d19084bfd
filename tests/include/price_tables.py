"""A price table with round prices, so that sums can be computed by hand."""

from __future__ import annotations

import copy
import json
from typing import Any

from include.cost.prices import Prices, read_table

DATED = {"date": "2026-11-01", "source": "made up for the tests"}
TABLE: dict[str, Any] = {
    "region": "eu-west-3",
    "date": "2026-11-02",
    "eur_per_usd": DATED | {"value": 0.5},
    "sources": dict.fromkeys(("ec2", "emr", "ebs", "s3"), DATED),
    "instances": {
        "m7g.xlarge": {"on_demand_usd_per_hour": 0.20, "emr_usd_per_hour": 0.05},
        "c7g.2xlarge": {"on_demand_usd_per_hour": 0.40, "emr_usd_per_hour": 0.10},
        "c6g.2xlarge": {"on_demand_usd_per_hour": 0.30, "emr_usd_per_hour": 0.08, "spot_usd_per_hour": 0.12},
    },
    "ebs_usd_per_gib_month": {"gp3": 0.10},
    "s3_usd": {"storage_per_gib_month": 0.02, "put_per_1000": 0.005, "get_per_1000": 0.0004},
}


def table(**changes: Any) -> dict[str, Any]:
    """The table with these parts replaced."""
    return copy.deepcopy(TABLE) | changes


def prices(**changes: Any) -> Prices:
    """The table with these parts replaced, parsed."""
    return read_table(json.dumps(table(**changes)), "test.json")


def instances_without(name: str, price: str) -> dict[str, Any]:
    """The table's instances without one of the prices."""
    found = copy.deepcopy(TABLE["instances"])
    del found[name][price]
    return found  # type: ignore[no-any-return]
