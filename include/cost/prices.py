"""The price table: dated, with sources, and replaceable. Unknown prices are reported, never guessed.

:mod:`include.cost.price_list` creates a new one from the AWS Price List API. The setting ``FRUITS_PRICE_TABLE`` names a
table that replaces ours. docs/cost.md describes the format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from include.records import JsonObject, TableOrigin
from include.settings.deployment import Settings

TABLE = Path(__file__).with_name("prices-eu-west-3.json")
"""The table of this project."""

INSTANCE_PRICES = ("on_demand_usd_per_hour", "emr_usd_per_hour", "spot_usd_per_hour")
S3_PRICES = ("storage_per_gib_month", "put_per_1000", "get_per_1000")
SOURCES = ("ec2", "emr", "ebs", "s3")


class PriceTableError(ValueError):
    """A price table cannot be used; the message lists every problem."""

    def __init__(self, where: str, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(f"the price table {where}: {'; '.join(problems)} (docs/cost.md describes the format)")


@dataclass(frozen=True)
class InstancePrice:
    """The prices of an instance type, in USD per hour; None when unknown.

    Attributes
    ----------
    on_demand, emr : float or None
        EC2's on-demand price, and EMR's surcharge.
    spot : float or None
        A recent spot price, if the table's owner adds one: it is no list price and changes.
    """

    on_demand: float | None = None
    emr: float | None = None
    spot: float | None = None


@dataclass(frozen=True)
class Prices:
    """The price table of one region.

    Attributes
    ----------
    region, date : str
        Its region and its date.
    eur_per_usd : float
        Euros per US dollar.
    origin : dict
        Name of the table, and the sources of its prices, for the cost record.
    instances : mapping of str to InstancePrice
        By instance type.
    ebs : mapping of str to float
        USD per GiB and month, by volume type.
    s3 : mapping of str to float
        :data:`S3_PRICES`, in USD.
    """

    region: str
    date: str
    eur_per_usd: float
    origin: TableOrigin
    instances: Mapping[str, InstancePrice] = field(default_factory=dict)
    ebs: Mapping[str, float] = field(default_factory=dict)
    s3: Mapping[str, float] = field(default_factory=dict)

    def instance(self, name: str) -> InstancePrice:
        """Return the prices of an instance type; all are unknown when the table lacks the type."""
        return self.instances.get(name, InstancePrice())


def load_prices(settings: Settings) -> Prices:
    """Return the table that the settings name, or else this project's.

    In a region that this project's table does not cover, every price is unknown.

    Raises
    ------
    PriceTableError
        When the table cannot be read, is for another region, or is malformed.
    """
    where = settings.price_table or str(TABLE)
    table = read_table(_read(where, settings.aws_conn_id), where)
    if table.region == settings.region:
        return table
    if settings.price_table:
        expected = f"region={table.region!r}: expected FRUITS_REGION={settings.region!r}"
        raise PriceTableError(f"FRUITS_PRICE_TABLE={where}", [expected])
    return Prices(settings.region, table.date, table.eur_per_usd, table.origin)


def _read(where: str, aws_conn_id: str | None) -> str:
    try:
        if where.startswith("s3://"):
            from include.lake.objects import LakePath

            return LakePath(where, aws_conn_id).read_bytes().decode()
        return Path(where.removeprefix("file://")).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PriceTableError(where, [f"cannot be read ({type(error).__name__}: {error})"]) from error


def read_table(text: str, where: str) -> Prices:
    """Parse a price table.

    Parameters
    ----------
    text : str
        The table as JSON.
    where : str
        Path or URI of the table, for errors and the cost record.

    Raises
    ------
    PriceTableError
        The message lists every problem.
    """
    try:
        record = json.loads(text)
    except ValueError as error:
        raise PriceTableError(where, [f"is not JSON ({error})"]) from None
    if not isinstance(record, dict):
        raise PriceTableError(where, [f"contains a JSON {type(record).__name__}, expected an object"])
    problems = _problems(record)
    if problems:
        raise PriceTableError(where, problems)
    return Prices(
        region=record["region"],
        date=record["date"],
        eur_per_usd=float(record["eur_per_usd"]["value"]),
        origin={"table": Path(where).name, "eur_per_usd": record["eur_per_usd"], "sources": record["sources"]},
        instances={name: _instance(values) for name, values in record["instances"].items()},
        ebs={name: float(value) for name, value in record["ebs_usd_per_gib_month"].items()},
        s3={name: float(value) for name, value in record["s3_usd"].items()},
    )


def _instance(values: JsonObject) -> InstancePrice:
    return InstancePrice(*(None if values.get(name) is None else float(values[name]) for name in INSTANCE_PRICES))


PARTS = ("region", "date", "eur_per_usd", "sources", "instances", "ebs_usd_per_gib_month", "s3_usd")


def _problems(record: JsonObject) -> list[str]:
    problems = [f"{name} is missing" for name in PARTS if name not in record]
    problems += [f"{name} is unknown; expected {', '.join(PARTS)}" for name in record if name not in PARTS]
    if not isinstance(record.get("region", ""), str):
        problems.append(f"region={record['region']!r}: expected a region's name")
    problems += _date_problems("date", record.get("date", "2000-01-01"))
    rate = record.get("eur_per_usd", {"value": 1, "date": "2000-01-01", "source": "none"})
    problems += _dated_problems("eur_per_usd", rate)
    if isinstance(rate, dict) and not (_is_price(rate.get("value")) and rate["value"] > 0):
        problems.append(f"eur_per_usd.value={rate.get('value')!r}: expected a number greater than 0")
    for name in SOURCES:
        problems += _dated_problems(f"sources.{name}", _part(record, "sources").get(name))
    for name, values in _part(record, "instances").items():
        problems += _price_problems(f"instances.{name}", values, INSTANCE_PRICES)
    problems += _price_problems("ebs_usd_per_gib_month", record.get("ebs_usd_per_gib_month", {}), None)
    problems += _price_problems("s3_usd", record.get("s3_usd", {}), S3_PRICES)
    for name in ("sources", "instances"):
        if name in record and not isinstance(record[name], dict):
            problems.append(f"{name}={record[name]!r}: expected an object")
    return problems


def _part(record: JsonObject, name: str) -> JsonObject:
    part = record.get(name)
    if name == "sources" and part is None:
        return {
            source: {"date": "2000-01-01", "source": "none"} for source in SOURCES
        }  # the missing part is already reported
    return part if isinstance(part, dict) else {}


def _dated_problems(name: str, value: Any) -> list[str]:
    if not isinstance(value, dict):
        return [f"{name}={value!r}: expected an object with date and source"]
    source = value.get("source")
    problems = [] if isinstance(source, str) and source.strip() else [f"{name}.source={source!r}: expected text"]
    return problems + _date_problems(f"{name}.date", value.get("date"))


def _date_problems(name: str, value: Any) -> list[str]:
    try:
        date.fromisoformat(value)
    except (TypeError, ValueError):
        return [f"{name}={value!r}: expected a date as YYYY-MM-DD"]
    return []


def _price_problems(name: str, values: Any, known: tuple[str, ...] | None) -> list[str]:
    if not isinstance(values, dict):
        return [f"{name}={values!r}: expected an object"]
    problems = []
    for key, value in values.items():
        if known is not None and key not in known:
            problems.append(f"{name}.{key} is unknown; expected {', '.join(known)}")
        elif not (_is_price(value) or (value is None and known is INSTANCE_PRICES)):
            problems.append(f"{name}.{key}={value!r}: expected a price in USD, 0 or more")
    return problems


def _is_price(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
