"""The price table: the project's, a deployment's with every kind of mistake, and one from the AWS Price List API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from include.cluster.instance_types import instance_types
from include.cost import __main__ as command
from include.cost import price_list
from include.cost.prices import TABLE, PriceTableError, load_prices, read_table
from include.settings.deployment import Settings
from include.settings.parameters import RunParams
from tests.include.price_tables import DATED, prices, table

LOCAL = Settings(profile="local", aws_conn_id=None)


def test_project_table_is_valid_and_names_only_existing_types() -> None:
    found = load_prices(LOCAL)
    assert found.region == "eu-west-3"
    assert set(found.instances) <= set(instance_types())
    assert all(source["source"] for source in found.origin["sources"].values())


def test_price_per_vcpu_is_the_same_within_a_family() -> None:
    """AWS sells a family's vCPUs at one price: another one in the table would be of another product."""
    families: dict[str, list[float]] = {}
    for name, price in load_prices(LOCAL).instances.items():
        assert price.on_demand is not None
        families.setdefault(name.partition(".")[0], []).append(price.on_demand / instance_types()[name].vcpus)
    assert len(families) > 3
    for family, per_vcpu in families.items():
        assert max(per_vcpu) == pytest.approx(min(per_vcpu), rel=1e-3), family


def test_project_table_has_no_price_without_a_source() -> None:
    found = load_prices(LOCAL)
    defaults = RunParams()
    assert found.instance(defaults.master_instance_type).on_demand == 0.1904
    assert found.instance("c8g.2xlarge").on_demand is None
    assert all(price.emr is None for price in found.instances.values())
    assert dict(found.ebs) == {}


def test_table_of_the_deployment_replaces_the_project_table(tmp_path: Path) -> None:
    path = tmp_path / "ours.json"
    path.write_text(json.dumps(table()))
    for where in (str(path), path.as_uri()):
        found = load_prices(Settings(profile="local", aws_conn_id=None, price_table=where))
        assert found.origin["table"] == "ours.json"
        assert found.instance("c7g.2xlarge").emr == 0.10
        assert found.eur_per_usd == 0.5


@pytest.mark.slow  # starts an S3 server
def test_table_of_the_deployment_may_be_in_a_bucket(bucket: Any) -> None:
    bucket.put_object(Key="prices.json", Body=json.dumps(table()).encode())
    settings = Settings(aws_conn_id=None, price_table=f"s3://{bucket.name}/prices.json")
    assert load_prices(settings).instance("c6g.2xlarge").spot == 0.12


def test_table_for_another_region_is_refused_and_the_project_table_has_no_prices_there(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(table(region="eu-west-1")))
    with pytest.raises(PriceTableError, match="region='eu-west-1': expected FRUITS_REGION='eu-west-3'"):
        load_prices(Settings(profile="local", aws_conn_id=None, price_table=str(path)))
    elsewhere = Settings(profile="local", aws_conn_id=None, region="eu-west-1", allowed_regions=("eu-west-1",))
    assert load_prices(elsewhere).instance("m7g.xlarge").on_demand is None


@pytest.mark.parametrize("text", ["", "[]", '"prices"', "{", "\xff"])
def test_file_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(PriceTableError, match=r"table\.json"):
        load_prices(Settings(profile="local", aws_conn_id=None, price_table=str(path)))


def test_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PriceTableError, match="cannot be read"):
        load_prices(Settings(profile="local", aws_conn_id=None, price_table=str(tmp_path / "none.json")))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"region": 3}, "region=3"),
        ({"date": "yesterday"}, "date='yesterday': expected a date"),
        ({"date": None}, "date=None"),
        ({"eur_per_usd": 0.9}, "eur_per_usd=0.9: expected an object with date and source"),
        ({"eur_per_usd": DATED | {"value": 0}}, "eur_per_usd.value=0: expected a number greater than 0"),
        ({"eur_per_usd": DATED | {"value": "0.9"}}, "eur_per_usd.value='0.9'"),
        ({"eur_per_usd": {"value": 0.9, "date": "2026-11-01"}}, "eur_per_usd.source=None"),
        ({"sources": {"ec2": DATED}}, "sources.emr=None: expected an object with date and source"),
        ({"sources": []}, "sources=[]: expected an object"),
        ({"instances": []}, "instances=[]: expected an object"),
        ({"instances": {"c7g.2xlarge": 0.4}}, "instances.c7g.2xlarge=0.4: expected an object"),
        ({"instances": {"c7g.2xlarge": {"price": 1}}}, "instances.c7g.2xlarge.price is unknown"),
        ({"instances": {"c7g.2xlarge": {"emr_usd_per_hour": -1}}}, "emr_usd_per_hour=-1: expected a price"),
        ({"instances": {"c7g.2xlarge": {"emr_usd_per_hour": True}}}, "emr_usd_per_hour=True"),
        ({"instances": {"c7g.2xlarge": {"emr_usd_per_hour": "0.1"}}}, "emr_usd_per_hour='0.1'"),
        ({"instances": {"c7g.2xlarge": {"emr_usd_per_hour": float("nan")}}}, "emr_usd_per_hour=nan"),
        ({"ebs_usd_per_gib_month": {"gp3": None}}, "ebs_usd_per_gib_month.gp3=None"),
        ({"s3_usd": {"storage": 1}}, "s3_usd.storage is unknown"),
        ({"vat": 0.2}, "vat is unknown"),
    ],
)
def test_every_problem_of_a_table_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PriceTableError) as caught:
        prices(**changes)
    assert says in str(caught.value)
    with pytest.raises(PriceTableError) as both:
        prices(**(changes | {"s3_usd": {"cents": 1}}))
    assert any("s3_usd.cents" in problem for problem in both.value.problems), "all at once"


def test_unknown_price_may_be_written_as_null() -> None:
    found = prices(instances={"c7g.2xlarge": {"on_demand_usd_per_hour": 0.4, "emr_usd_per_hour": None}})
    assert found.instance("c7g.2xlarge").emr is None


@pytest.mark.parametrize("part", ["region", "date", "eur_per_usd", "sources", "instances", "s3_usd"])
def test_part_that_is_missing_is_named(part: str) -> None:
    record = table()
    del record[part]
    with pytest.raises(PriceTableError, match=f"{part} is missing"):
        read_table(json.dumps(record), "x")


def product(price: str, begin: str = "0", **attributes: str) -> str:
    """One item of GetProducts' PriceList, as the AWS Price List API documents it: JSON in a string."""
    offer = {
        "X.JRTCKXETXF": {
            "priceDimensions": {
                "X.JRTCKXETXF.6YS6EN2CT7": {
                    "unit": "Hrs",
                    "beginRange": begin,
                    "endRange": "Inf",
                    "pricePerUnit": {"USD": price},
                    "description": "",
                }
            },
            "sku": "X",
            "termAttributes": {},
        }
    }
    reserved = {"X.R": {"priceDimensions": {"X.R.1": {"unit": "Hrs", "pricePerUnit": {"USD": "0.0100000000"}}}}}
    return json.dumps(
        {
            "product": {"productFamily": "Compute Instance", "attributes": attributes, "sku": "X"},
            "serviceCode": "AmazonEC2",
            "terms": {"OnDemand": offer, "Reserved": reserved},
            "publicationDate": "2026-11-20T00:00:00Z",
        }
    )


def unit_price(*pages: list[str]) -> float | None:
    client = boto3.client("pricing", region_name="eu-central-1")
    with Stubber(client) as stub:
        for number, page in enumerate(pages):
            more = {"NextToken": f"t{number}"} if number + 1 < len(pages) else {}
            stub.add_response("get_products", {"FormatVersion": "aws_v1", "PriceList": page} | more)
        return price_list.unit_price(client, "AmazonEC2", {"instanceType": "c7g.2xlarge"})


@pytest.mark.parametrize(
    ("pages", "price"),
    [
        ([[product("0.3434000000")]], 0.3434),
        ([[product("0.3434000000"), product("0.0000000000")]], 0.3434),  # a capacity reservation is 0
        ([[product("0.3434000000")], [product("0.3434000000")]], 0.3434),
        ([[]], None),
        ([[product("0.3434000000")], [product("0.4000000000")]], None),  # which one is meant?
        ([[product("0.0240000000"), product("0.0230000000", begin="51200")]], 0.024),  # the first tier
        ([[product("0.0000000000")]], None),
        ([['{"product": {}, "terms": {}}']], None),
    ],
)
def test_price_is_accepted_when_the_api_returns_exactly_one(pages: list[list[str]], price: float | None) -> None:
    assert unit_price(*pages) == price


def test_command_writes_a_valid_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> None:
    client = boto3.client("pricing", region_name="eu-central-1")
    monkeypatch.setattr(boto3, "client", lambda service, region_name: client)
    answers = [
        "0.3434000000",
        "0.0840000000",
        None,
        None,
        "0.0952000000",
        "0.0240000000",
        "0.0000053000",
        "0.0000004200",
    ]
    output = tmp_path / "prices.json"
    with Stubber(client) as stub:
        for answer in answers:
            page = [] if answer is None else [product(answer)]
            stub.add_response("get_products", {"PriceList": page}, {"ServiceCode": ANY, "Filters": ANY})
        command.main(["--output", str(output), "--types", "c7g.2xlarge", "c8g.2xlarge"])
        stub.assert_no_pending_responses()
    found = read_table(output.read_text(), str(output))
    assert found.instance("c7g.2xlarge").on_demand == 0.3434
    assert found.instance("c7g.2xlarge").emr == 0.084
    assert found.instance("c8g.2xlarge").on_demand is None
    assert dict(found.ebs) == {"gp3": 0.0952}
    assert dict(found.s3) == {"storage_per_gib_month": 0.024, "put_per_1000": 0.0053, "get_per_1000": 0.00042}
    assert found.eur_per_usd == json.loads(TABLE.read_text())["eur_per_usd"]["value"]
    assert "without a price for EC2 or EMR: c8g.2xlarge" in capsys.readouterr().out


def test_requests_have_the_filters_of_the_api() -> None:
    """Its model checks the form; which attributes tell a product from others is in AWS's documentation."""
    client = boto3.client("pricing", region_name="eu-central-1")
    asked: list[dict[str, Any]] = []
    with Stubber(client) as stub:
        client.meta.events.register(
            "provide-client-params.pricing.GetProducts", lambda params, **_: asked.append(params)
        )
        for _ in range(6):
            stub.add_response("get_products", {"PriceList": []})
        price_list.fetch_table(client, "eu-west-3", ["c7g.2xlarge"], DATED | {"value": 0.9})
    assert [call["ServiceCode"] for call in asked] == [
        *("AmazonEC2", "ElasticMapReduce", "AmazonEC2", "AmazonS3", "AmazonS3", "AmazonS3")
    ]
    for call in asked:
        assert {"Type": "TERM_MATCH", "Field": "regionCode", "Value": "eu-west-3"} in call["Filters"]
    assert {"Type": "TERM_MATCH", "Field": "tenancy", "Value": "Shared"} in asked[0]["Filters"]


def test_exchange_rate_without_its_date_is_refused(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        command.main(["--eur-per-usd", "0.9"])
    assert "an exchange rate needs its date" in capsys.readouterr().err
