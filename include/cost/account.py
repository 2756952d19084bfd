"""The cost of a run, computed from the instances that EMR reports. Pure functions.

EC2, EMR and EBS are all billed by the second with a minimum of one minute (Amazon EMR pricing, "Amazon EMR on Amazon
EC2"; the EMR FAQ, "Billing"). An instance counts from its creation to its termination. Taxes, support, discounts,
KMS and the network (endpoints, traffic between zones) are not included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from include.cost.money import Amount, describe_amount, total
from include.cost.prices import Prices
from include.records import Cost, CostLine, FleetCost, ImagesPerEuro, StorageCost

Response = dict[str, Any]
"""A part of a response from EMR's API."""

MINIMUM_SECONDS = 60.0
SECONDS_PER_HOUR = 3600.0
MONTH_SECONDS = 30 * 86_400.0
"""EBS charges volumes by the share of a 30-day month (Amazon EBS pricing, gp3 example)."""

GIB = 2**30
"""A GB on the bills of EBS and S3 (Amazon S3 FAQ, "Billing")."""

FLEETS = ("MASTER", "CORE", "TASK")

SPOT_NOTE = "spot instances count from 0 to the on-demand price; only the bill has the actual price"


@dataclass(frozen=True)
class _Group:
    """Instances of one fleet, market and type."""

    fleet: str
    market: str
    instance_type: str
    instances: int
    seconds: float
    """Their run times, added up."""
    volumes: tuple[tuple[str, int], ...]
    """Type and GiB of each volume of one instance."""


@dataclass(frozen=True)
class _Line:
    """One priced item. ``instances`` is a number of images for S3 requests."""

    what: str
    amount: Amount
    fleet: str = ""
    market: str = ""
    instance_type: str = ""
    instances: int = 0
    hours: float = 0.0

    def record(self) -> CostLine:
        return {
            "what": self.what,
            "fleet": self.fleet,
            "market": self.market,
            "instance_type": self.instance_type,
            "instances": self.instances,
            "hours": self.hours,
            "usd": self.amount.record(),
        }


def account_cost(
    prices: Prices,
    cluster: Response,
    instances: Sequence[Response],
    fleets: Sequence[Response],
    stored_bytes: int | None,
    images: int,
    now: datetime,
) -> Cost:
    """Return the cost of a run's clusters.

    Parameters
    ----------
    prices : Prices
        The price table.
    cluster : dict
        ``Cluster`` of EMR's DescribeCluster.
    instances : sequence of dict
        All ``Instances`` of EMR's ListInstances, also the terminated ones.
    fleets : sequence of dict
        ``InstanceFleets`` of EMR's ListInstanceFleets.
    stored_bytes : int or None
        Size of the run's files in the lake; None when unknown.
    images : int
        Number of images with features.
    now : datetime
        With a time zone; running instances count until then.
    """
    fleet_types = {fleet["Id"]: fleet.get("InstanceFleetType", "") for fleet in fleets}
    volumes = _volumes(cluster, fleets)
    started = [instance for instance in instances if _timeline(instance).get("CreationDateTime")]
    running = [instance for instance in started if not _timeline(instance).get("EndDateTime")]
    groups = list(_groups(started, fleet_types, volumes, now))
    unknown: list[str] = []
    lines = [line for group in groups for line in _lines(prices, group, unknown)]
    requests = request_amount(prices, images)
    lines.append(_Line("S3 requests: one GET per image, one LIST per 1,000 images", requests, instances=images))
    _note_unknown(unknown, "S3's price of requests", requests)
    storage = _storage(prices, stored_bytes, unknown)
    usd = total(line.amount for line in lines)
    eur = usd.times(prices.eur_per_usd)
    return {
        "cluster_id": cluster.get("Id"),
        "counted_at": now.isoformat(timespec="seconds"),
        "instance_hours": round(sum(group.seconds for group in groups) / SECONDS_PER_HOUR, 4),
        "prices": {"region": prices.region, "date": prices.date, **prices.origin},
        "lines": [line.record() for line in lines],
        "fleets": _fleet_costs(lines, prices.eur_per_usd),
        "usd": usd.record(),
        "eur": eur.record(),
        "complete": eur.high is not None,
        "storage": storage,
        "images": images,
        "images_per_eur": _images_per_eur(images, eur),
        "unknown": unknown,
        "notes": _notes(groups, prices, len(running), len(instances), len(started), now),
    }


def _timeline(instance: Response) -> Response:
    return (instance.get("Status") or {}).get("Timeline") or {}


def _volumes(cluster: Response, fleets: Sequence[Response]) -> dict[tuple[str, str], tuple[tuple[str, int], ...]]:
    """Return the volumes of one instance, as type and GiB, by fleet and instance type.

    The root device is gp3 on all supported releases (EMR Management Guide, "Customizing the Amazon EBS
    root device volume").
    """
    root = (("gp3", int(cluster["EbsRootVolumeSize"])),) if cluster.get("EbsRootVolumeSize") else ()
    return {
        (fleet["Id"], type_["InstanceType"]): root
        + tuple(
            (device["VolumeSpecification"]["VolumeType"], int(device["VolumeSpecification"]["SizeInGB"]))
            for device in type_.get("EbsBlockDevices") or []
            if device.get("VolumeSpecification")
        )
        for fleet in fleets
        for type_ in fleet.get("InstanceTypeSpecifications") or []
    }


def _groups(
    started: Sequence[Response],
    fleet_types: dict[str, str],
    volumes: dict[tuple[str, str], tuple[tuple[str, int], ...]],
    now: datetime,
) -> Iterator[_Group]:
    seconds_by_group: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for instance in started:
        fleet = instance.get("InstanceFleetId", "")
        timeline = _timeline(instance)
        end = timeline.get("EndDateTime") or now
        seconds = max((end - timeline["CreationDateTime"]).total_seconds(), MINIMUM_SECONDS)
        key = (fleet_types.get(fleet, "no fleet"), instance.get("Market", "ON_DEMAND"), instance["InstanceType"], fleet)
        seconds_by_group[key].append(seconds)
    for key in sorted(seconds_by_group, key=lambda key: (_rank(key[0]), key)):
        fleet_type, market, name, fleet = key
        run_times = seconds_by_group[key]
        yield _Group(fleet_type, market, name, len(run_times), sum(run_times), volumes.get((fleet, name), ()))


def _rank(fleet: str) -> int:
    return FLEETS.index(fleet) if fleet in FLEETS else len(FLEETS)


def _lines(prices: Prices, group: _Group, unknown: list[str]) -> Iterator[_Line]:
    price, hours = prices.instance(group.instance_type), group.seconds / SECONDS_PER_HOUR
    template = _Line("", Amount(0, 0), group.fleet, group.market, group.instance_type, group.instances, round(hours, 4))
    ec2 = node_amount(prices, group.instance_type, group.market, hours)
    _note_unknown(unknown, f"EC2's price of {group.instance_type}", ec2)
    yield replace(template, what="EC2", amount=ec2)
    emr = Amount.of(price.emr, hours)
    _note_unknown(unknown, f"EMR's surcharge on {group.instance_type}", emr)
    yield replace(template, what="EMR surcharge", amount=emr)
    sizes: dict[str, int] = defaultdict(int)
    for kind, gib in group.volumes:
        sizes[kind] += gib
    for kind, gib in sizes.items():
        ebs = Amount.of(prices.ebs.get(kind), gib * group.seconds / MONTH_SECONDS)
        _note_unknown(unknown, f"EBS's price of {kind}", ebs)
        yield replace(template, what=f"EBS {kind}, {gib} GiB", amount=ebs)


def node_amount(prices: Prices, instance_type: str, market: str, hours: float) -> Amount:
    """Return EC2's charge for a type. Without a spot price in the table, spot costs at most the on-demand price."""
    price = prices.instance(instance_type)
    if market == "SPOT":
        return Amount.up_to(price.on_demand, hours) if price.spot is None else Amount.of(price.spot, hours)
    return Amount.of(price.on_demand, hours)


def _note_unknown(unknown: list[str], what: str, amount: Amount) -> None:
    if amount.high is None and what not in unknown:
        unknown.append(what)


def request_amount(prices: Prices, images: int) -> Amount:
    """Return the cost of a run's S3 requests: one GET per image, and one LIST per 1,000 images."""
    gets = Amount.of(prices.s3.get("get_per_1000"), images / 1000)
    return gets + Amount.of(prices.s3.get("put_per_1000"), images / 1e6)


def _notes(
    groups: Sequence[_Group], prices: Prices, running: int, reported: int, started: int, now: datetime
) -> list[str]:
    notes = []
    if any(group.market == "SPOT" and prices.instance(group.instance_type).spot is None for group in groups):
        notes.append(SPOT_NOTE)
    if running:
        notes.append(
            f"{running} instances were still running at {now.isoformat(timespec='seconds')}: counted until then"
        )
    if started < reported:
        notes.append(f"{reported - started} requested instances never started: not counted")
    if not reported:
        notes.append("EMR reports no instances")
    if any(not group.volumes for group in groups):
        notes.append("EMR reports no volumes for some instances: their EBS cost is not counted")
    return notes


def _fleet_costs(lines: Sequence[_Line], eur_per_usd: float) -> list[FleetCost]:
    lines_by_fleet: dict[tuple[str, str], list[_Line]] = defaultdict(list)
    for line in lines:
        if line.fleet:
            lines_by_fleet[line.fleet, line.market].append(line)
    costs: list[FleetCost] = []
    for (fleet, market), members in lines_by_fleet.items():
        usd = total(line.amount for line in members)
        machines = [line for line in members if line.what == "EC2"]
        costs.append(
            {
                "fleet": fleet,
                "market": market,
                "instances": sum(line.instances for line in machines),
                "hours": round(sum(line.hours for line in machines), 4),
                "usd": usd.record(),
                "eur": usd.times(eur_per_usd).record(),
            }
        )
    return costs


def _storage(prices: Prices, stored_bytes: int | None, unknown: list[str]) -> StorageCost:
    if stored_bytes is None:
        amount = Amount(0.0, None)
        _note_unknown(unknown, "the size of the run's files in the lake", amount)
    else:
        amount = Amount.of(prices.s3.get("storage_per_gib_month"), stored_bytes / GIB)
        _note_unknown(unknown, "S3's price of storage", amount)
    return {
        "bytes": stored_bytes,
        "usd_per_month": amount.record(),
        "eur_per_month": amount.times(prices.eur_per_usd).record(),
    }


def _images_per_eur(images: int, eur: Amount) -> ImagesPerEuro:
    """Return the images per euro; the lower bound comes from the upper bound of the cost, and the other way round."""
    return {
        "low": round(images / eur.high, 1) if eur.high else None,
        "high": round(images / eur.low, 1) if eur.low else None,
    }


def describe_cost(cost: Cost) -> str:
    """Return what a run has cost as one line for the log."""
    rate = cost["images_per_eur"]
    images = f"{cost['images']:,} images"
    if rate["low"] is not None and rate["low"] == rate["high"]:
        images += f" ({rate['low']:,.0f} per euro)"
    elif rate["low"] is not None:
        images += f" (at least {rate['low']:,.0f} per euro)"
    elif rate["high"] is not None:
        images += f" (at most {rate['high']:,.0f} per euro)"
    parts = [
        f"{describe_amount(cost['eur'])} ({describe_amount(cost['usd'], 'USD')}) for {images}",
        f"{cost['instance_hours']:.2f} instance hours",
        f"storage {describe_amount(cost['storage']['eur_per_month'])} per month",
        f"prices of {cost['prices']['date']}",
    ]
    if cost["unknown"]:
        parts.append(f"UNKNOWN, never guessed: {', '.join(cost['unknown'])}")
    return "; ".join([*parts, *cost["notes"]])
