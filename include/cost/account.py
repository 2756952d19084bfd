"""What a run has cost, from what EMR says really ran. Pure.

EC2, EMR and EBS are all billed by the second with a minimum of one minute (Amazon EMR pricing, "Amazon EMR on Amazon
EC2"; the EMR FAQ, "Billing"). An instance counts from its creation to its end. Taxes, support, discounts, KMS and the
network (endpoints, traffic between zones) are not in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.cost.money import Amount, describe_amount, total
from include.cost.prices import Prices
from include.records import Cost

MINIMUM_SECONDS = 60.0
SECONDS_PER_HOUR = 3600.0
MONTH_SECONDS = 30 * 86_400.0
"""Volumes are charged by the share of a month of 30 days (Amazon EBS pricing, the example of gp3)."""

GIB = 2**30
"""What EBS and S3 call a GB on the bill (Amazon S3 FAQ, "Billing")."""

FLEETS = ("MASTER", "CORE", "TASK")

SPOT_NOTE = "spot at no more than the on-demand price: what it really was, only the bill tells"


@dataclass(frozen=True)
class _Group:
    """Instances that are alike, and how long they ran."""

    fleet: str
    market: str
    instance_type: str
    instances: int
    seconds: float
    volumes: tuple[tuple[str, int], ...]


def account_cost(
    prices: Prices,
    cluster: dict[str, Any],
    instances: Sequence[dict[str, Any]],
    fleets: Sequence[dict[str, Any]],
    stored_bytes: int | None,
    images: int,
    now: datetime,
) -> Any:
    """Return what a run's cluster has cost.

    Parameters
    ----------
    prices : Prices
        The table of prices.
    cluster : dict
        ``Cluster`` of EMR's DescribeCluster.
    instances : sequence of dict
        All ``Instances`` of EMR's ListInstances, those that have ended too.
    fleets : sequence of dict
        ``InstanceFleets`` of EMR's ListInstanceFleets.
    stored_bytes : int or None
        Bytes that the run keeps in the lake; None is unknown.
    images : int
        Images that became features.
    now : datetime
        With a time zone: until then an instance counts that has no end.

    Returns
    -------
    dict
        For the manifest: ``lines`` (each with what, fleet, market, type and an amount in USD), ``fleets`` (by fleet and
        market, in USD and EUR), ``usd`` and ``eur`` (``low`` and ``high``: at least and at most; ``high`` is None when
        a price is unknown), ``storage`` (a month's, which is not in the sum), ``images_per_eur``, ``unknown`` and
        ``notes``.
    """
    kinds = {fleet["Id"]: fleet.get("InstanceFleetType", "") for fleet in fleets}
    volumes = _volumes(cluster, fleets)
    started = [instance for instance in instances if _timeline(instance).get("CreationDateTime")]
    running = [instance for instance in started if not _timeline(instance).get("EndDateTime")]
    groups = list(_groups(started, kinds, volumes, now))
    unknown: list[str] = []
    lines = [line for group in groups for line in _lines(prices, group, unknown)]
    requests = total(
        (
            Amount.of(prices.s3.get("get_per_1000"), images / 1000),
            Amount.of(prices.s3.get("put_per_1000"), images / 1e6),
        )
    )
    lines.append(_line("S3 requests: a GET an image, a LIST a thousand", requests, quantity=images))
    _note_unknown(unknown, "S3's price of requests", requests)
    notes = _notes(groups, prices, running, instances, started, now)
    return _record(prices, lines, images, stored_bytes, unknown, notes) | {
        "cluster_id": cluster.get("Id"),
        "counted_at": now.isoformat(timespec="seconds"),
        "instance_hours": round(sum(group.seconds for group in groups) / SECONDS_PER_HOUR, 4),
    }


def _timeline(instance: dict[str, Any]) -> dict[str, Any]:
    return (instance.get("Status") or {}).get("Timeline") or {}


def _volumes(
    cluster: dict[str, Any], fleets: Sequence[dict[str, Any]]
) -> dict[tuple[str, str], tuple[tuple[str, int], ...]]:
    """Return the volumes of an instance, as type and GiB, by fleet and instance type.

    The root device is gp3 on every release that a cluster may have (EMR Management Guide, "Customizing the Amazon EBS
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
    started: Sequence[dict[str, Any]],
    kinds: dict[str, str],
    volumes: dict[tuple[str, str], tuple[tuple[str, int], ...]],
    now: datetime,
) -> Iterator[_Group]:
    found: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for instance in started:
        fleet = instance.get("InstanceFleetId", "")
        timeline = _timeline(instance)
        end = timeline.get("EndDateTime") or now
        seconds = max((end - timeline["CreationDateTime"]).total_seconds(), MINIMUM_SECONDS)
        key = (kinds.get(fleet, "no fleet"), instance.get("Market", "ON_DEMAND"), instance["InstanceType"], fleet)
        found[key].append(seconds)
    for (kind, market, name, fleet), seconds_of in sorted(found.items(), key=lambda item: (_rank(item[0][0]), item[0])):
        yield _Group(kind, market, name, len(seconds_of), sum(seconds_of), volumes.get((fleet, name), ()))


def _rank(fleet: str) -> int:
    return FLEETS.index(fleet) if fleet in FLEETS else len(FLEETS)


def _lines(prices: Prices, group: _Group, unknown: list[str]) -> Iterator[dict[str, Any]]:
    price, hours = prices.instance(group.instance_type), group.seconds / SECONDS_PER_HOUR
    ec2 = node_amount(prices, group.instance_type, group.market, hours)
    _note_unknown(unknown, f"EC2's price of {group.instance_type}", ec2)
    yield _line("EC2", ec2, group, hours)
    emr = Amount.of(price.emr, hours)
    _note_unknown(unknown, f"EMR's surcharge on {group.instance_type}", emr)
    yield _line("EMR surcharge", emr, group, hours)
    sizes: dict[str, int] = defaultdict(int)
    for kind, gib in group.volumes:
        sizes[kind] += gib
    for kind, gib in sizes.items():
        ebs = Amount.of(prices.ebs.get(kind), gib * group.seconds / MONTH_SECONDS)
        _note_unknown(unknown, f"EBS's price of {kind}", ebs)
        yield _line(f"EBS {kind}, {gib} GiB", ebs, group, hours)


def node_amount(prices: Prices, instance_type: str, market: str, hours: float) -> Amount:
    """Return what EC2 takes for a type: spot is its price in the table, or at most the price on demand."""
    price = prices.instance(instance_type)
    if market == "SPOT":
        return Amount.up_to(price.on_demand, hours) if price.spot is None else Amount.of(price.spot, hours)
    return Amount.of(price.on_demand, hours)


def _note_unknown(unknown: list[str], what: str, amount: Amount) -> None:
    if amount.high is None and what not in unknown:
        unknown.append(what)


def _line(
    what: str, amount: Amount, group: _Group | None = None, hours: float = 0.0, quantity: int = 0
) -> dict[str, Any]:
    return {
        "what": what,
        "fleet": group.fleet if group else "",
        "market": group.market if group else "",
        "instance_type": group.instance_type if group else "",
        "instances": group.instances if group else quantity,
        "hours": round(hours, 4),
        "amount": amount,
    }


def _notes(
    groups: Sequence[_Group],
    prices: Prices,
    running: Sequence[dict[str, Any]],
    instances: Sequence[dict[str, Any]],
    started: Sequence[dict[str, Any]],
    now: datetime,
) -> list[str]:
    notes = []
    if any(group.market == "SPOT" and prices.instance(group.instance_type).spot is None for group in groups):
        notes.append(SPOT_NOTE)
    if running:
        notes.append(
            f"{len(running)} instances had not ended at {now.isoformat(timespec='seconds')}: counted until then"
        )
    if len(started) < len(instances):
        notes.append(f"{len(instances) - len(started)} instances were asked for and never started: not counted")
    if not instances:
        notes.append("EMR tells of no instance")
    if any(not group.volumes for group in groups):
        notes.append("EMR tells of no volume of some instances: their EBS is not counted")
    return notes


def _record(
    prices: Prices,
    lines: list[dict[str, Any]],
    images: int,
    stored_bytes: int | None,
    unknown: list[str],
    notes: list[str],
) -> dict[str, Any]:
    usd = total(line["amount"] for line in lines)
    eur = usd.times(prices.eur_per_usd)
    by_fleet: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        if line["fleet"]:
            by_fleet[line["fleet"], line["market"]].append(line)
    fleets = []
    for (fleet, market), members in by_fleet.items():
        sum_usd = total(line["amount"] for line in members)
        machines = [line for line in members if line["what"] == "EC2"]
        fleets.append(
            {
                "fleet": fleet,
                "market": market,
                "instances": sum(line["instances"] for line in machines),
                "hours": round(sum(line["hours"] for line in machines), 4),
                "usd": sum_usd.record(),
                "eur": sum_usd.times(prices.eur_per_usd).record(),
            }
        )
    storage = Amount.of(prices.s3.get("storage_per_gib_month"), (stored_bytes or 0) / GIB)
    if stored_bytes is None:
        storage = Amount(0.0, None)
    _note_unknown(
        unknown, "S3's price of storage" if stored_bytes is not None else "the run's bytes in the lake", storage
    )
    return {
        "prices": {"region": prices.region, "date": prices.date, **prices.origin},
        "lines": [
            {name: value for name, value in line.items() if name != "amount"} | {"usd": line["amount"].record()}
            for line in lines
        ],
        "fleets": fleets,
        "usd": usd.record(),
        "eur": eur.record(),
        "complete": eur.high is not None,
        "storage": {
            "bytes": stored_bytes,
            "usd_per_month": storage.record(),
            "eur_per_month": storage.times(prices.eur_per_usd).record(),
        },
        "images": images,
        "images_per_eur": _images_per_eur(images, eur),
        "unknown": unknown,
        "notes": notes,
    }


def _images_per_eur(images: int, eur: Amount) -> dict[str, float | None]:
    """Return the images that a euro buys, at least and at most: the other way round than what they cost."""
    return {
        "low": round(images / eur.high, 1) if eur.high else None,
        "high": round(images / eur.low, 1) if eur.low else None,
    }


def describe_cost(cost: Cost) -> str:
    """Return what a run has cost as one line for the log."""
    rate = cost["images_per_eur"]
    images = f"{cost['images']:,} images"
    if rate["low"] is not None and rate["low"] == rate["high"]:
        images += f" ({rate['low']:,.0f} a euro)"
    elif rate["low"] is not None:
        images += f" (at least {rate['low']:,.0f} a euro)"
    elif rate["high"] is not None:
        images += f" (at most {rate['high']:,.0f} a euro)"
    parts = [
        f"{describe_amount(cost['eur'])} ({describe_amount(cost['usd'], 'USD')}) for {images}",
        f"{cost['instance_hours']:.2f} instance hours",
        f"storage {describe_amount(cost['storage']['eur_per_month'])} a month",
        f"prices of {cost['prices']['date']}",
    ]
    if cost["unknown"]:
        parts.append(f"UNKNOWN, not guessed: {', '.join(cost['unknown'])}")
    return "; ".join([*parts, *cost["notes"]])
