"""Fetch a new price table from the AWS Price List API. Needs ``pricing:GetProducts``.

A price is left out unless the API returns exactly one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from include.records import JsonObject

API_REGION = "eu-central-1"
"""Three regions serve the prices of all regions: us-east-1, eu-central-1, ap-south-1 (AWS Billing User Guide, "Price
List Query API endpoints"). This one is in Europe."""

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
"""Filters that select one product among the many of an instance type."""

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


def fetch_table(client: Any, region: str, names: Iterable[str], eur_per_usd: JsonObject) -> JsonObject:
    """Return a table with the prices that the API returns.

    Parameters
    ----------
    client : botocore client
        A client of ``pricing``.
    region : str
        The region whose prices are fetched.
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
    """Return the price of the product with these attributes, in USD per unit; with tiers, that of the first tier.

    None when no product matches, or several products with different prices.
    """
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in attributes.items()]
    pages = client.get_paginator("get_products").paginate(ServiceCode=service, Filters=filters)
    products = (json.loads(item) for page in pages for item in page["PriceList"])
    prices = {price for product in products for price in _first_tier(product)}
    return prices.pop() if len(prices) == 1 else None


def _first_tier(product: JsonObject) -> Iterator[float]:
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            if dimension.get("beginRange", "0") == "0" and "USD" in dimension.get("pricePerUnit", {}):
                price = float(dimension["pricePerUnit"]["USD"])
                if price > 0:  # reservations and capacity blocks are products with price 0
                    yield price
