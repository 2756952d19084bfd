"""A new table of prices from the AWS Price List API: ``make prices``.

Needs credentials that may ``pricing:GetProducts``. What the API does not answer with exactly one price is left out, and
said. The API has no exchange rates: give the European Central Bank's, or the present table's stays, with its date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.cluster.instance_types import instance_types
from include.cost.prices import TABLE, read_table

API_REGION = "eu-central-1"
"""The API answers for all regions from three: us-east-1, eu-central-1, ap-south-1 (AWS Billing User Guide, "Price List
Query API endpoints"). This one is in Europe."""

SOURCE = "AWS Price List API, GetProducts"

INSTANCE_FILTERS = {
    "AmazonEC2": {
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
        "licenseModel": "No License required",
    },
    "ElasticMapReduce": {"softwareType": "EMR"},
}
"""What tells one product of an instance type from its many others."""

EBS_FILTERS = {"productFamily": "Storage", "volumeApiName": "gp3"}
S3_FILTERS = {
    "storage_per_gib_month": {
        "productFamily": "Storage",
        "storageClass": "General Purpose",
        "volumeType": "Standard",
    },
    "put_per_1000": {"productFamily": "API Request", "group": "S3-API-Tier1"},
    "get_per_1000": {"productFamily": "API Request", "group": "S3-API-Tier2"},
}
PER_REQUESTS = 1000


def fetch_table(client: Any, region: str, names: Iterable[str], eur_per_usd: dict[str, Any]) -> dict[str, Any]:
    """Return a table with the prices that the API tells.

    Parameters
    ----------
    client : botocore client
        That of ``pricing``.
    region : str
        The region whose prices are asked for.
    names : iterable of str
        Instance types.
    eur_per_usd : dict
        ``value``, ``date`` and ``source`` of the exchange rate.
    """
    today = datetime.now(UTC).date().isoformat()
    instances = {}
    for name in names:
        ec2, emr = (
            unit_price(client, service, {"regionCode": region, "instanceType": name} | filters)
            for service, filters in INSTANCE_FILTERS.items()
        )
        if ec2 is not None or emr is not None:
            instances[name] = {"on_demand_usd_per_hour": ec2, "emr_usd_per_hour": emr}
    gp3 = unit_price(client, "AmazonEC2", {"regionCode": region} | EBS_FILTERS)
    s3 = {name: unit_price(client, "AmazonS3", {"regionCode": region} | only) for name, only in S3_FILTERS.items()}
    return {
        "region": region,
        "date": today,
        "eur_per_usd": eur_per_usd,
        "sources": {name: {"date": today, "source": SOURCE} for name in ("ec2", "emr", "ebs", "s3")},
        "instances": {name: _known(prices) for name, prices in sorted(instances.items())},
        "ebs_usd_per_gib_month": _known({"gp3": gp3}),
        "s3_usd": _known(
            {
                name: value if value is None or name == "storage_per_gib_month" else value * PER_REQUESTS
                for name, value in s3.items()
            }
        ),
    }


def _known(prices: dict[str, float | None]) -> dict[str, float]:
    return {name: round(value, 8) for name, value in prices.items() if value is not None}


def unit_price(client: Any, service: str, attributes: dict[str, str]) -> float | None:
    """Return the price of the one product with these attributes, in USD a unit; of tiers, the first.

    None when there is no such product, or several with different prices: which is meant cannot be told.
    """
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in attributes.items()]
    pages = client.get_paginator("get_products").paginate(ServiceCode=service, Filters=filters)
    products = (json.loads(item) for page in pages for item in page["PriceList"])
    found = {price for product in products for price in _first_tier(product)}
    return found.pop() if len(found) == 1 else None


def _first_tier(product: dict[str, Any]) -> Iterator[float]:
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            if dimension.get("beginRange", "0") == "0" and "USD" in dimension.get("pricePerUnit", {}):
                price = float(dimension["pricePerUnit"]["USD"])
                if price > 0:  # reservations and capacity blocks are products of 0
                    yield price


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m include.cost.price_list", description=__doc__)
    parser.add_argument("--region", default="eu-west-3")
    parser.add_argument("--output", type=Path, help="file to write; the table of the region beside the code by default")
    parser.add_argument("--types", nargs="*", help="instance types; all that a cluster may be made of by default")
    parser.add_argument("--eur-per-usd", type=float, help="euros a dollar; the present table's by default")
    parser.add_argument("--eur-date", help="the day of that rate, YYYY-MM-DD")
    options = parser.parse_args(arguments)
    if (options.eur_per_usd is None) != (options.eur_date is None):
        parser.error("--eur-per-usd and --eur-date belong together: a rate has its day")
    output = options.output or TABLE.with_name(f"prices-{options.region}.json")

    import boto3

    rate = json.loads(TABLE.read_text(encoding="utf-8"))["eur_per_usd"]
    if options.eur_per_usd is not None:
        rate = {"value": options.eur_per_usd, "date": options.eur_date, "source": "given with --eur-per-usd"}
    names = options.types or sorted(instance_types())
    table = fetch_table(boto3.client("pricing", region_name=API_REGION), options.region, names, rate)
    text = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
    read_table(text, str(output))
    output.write_text(text, encoding="utf-8")
    missing = [name for name in names if len(table["instances"].get(name, {})) < len(INSTANCE_FILTERS)]
    sys.stdout.write(f"{output}: {len(table['instances'])} instance types, euro rate of {rate['date']}\n")
    if missing:
        sys.stdout.write(f"without a price for EC2 or EMR: {', '.join(missing)}\n")


if __name__ == "__main__":
    main()
