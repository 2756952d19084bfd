"""The forecast of a run's cost, and the cap that may stop the run. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from include.cluster.instance_types import instance_types
from include.cluster.planning import SizePlan
from include.cluster.request import ROOT_VOLUME_GIB
from include.cluster.sizing import Size, unit_vcpus, weight
from include.cost.account import MONTH_SECONDS, SECONDS_PER_HOUR, SPOT_NOTE, node_amount, request_amount
from include.cost.money import Amount, describe_amount, total
from include.cost.prices import Prices
from include.records import Forecast, ForecastCase
from include.settings.parameters import RunParams

STEPS = 2


class CostCapError(RuntimeError):
    """The forecast exceeds the cap, or a cap is set and the forecast is incomplete."""


def forecast_cost(prices: Prices, params: RunParams, plan: SizePlan) -> Forecast:
    """Return the expected and the worst-case cost of a run.

    Parameters
    ----------
    prices : Prices
        The price table.
    params : RunParams
        Instance types, disks and time limits.
    plan : SizePlan
        The cluster, and how long it is expected to live.

    Returns
    -------
    dict
        For the manifest: ``expected`` and ``worst``, each with ``seconds``, ``usd`` and ``eur`` (``low`` and
        ``high``), ``images``, ``unknown`` and ``assumptions``.
    """
    fleets, images = list(_fleets(params, plan.size)), plan.work.images
    worst_seconds = (
        plan.rates.start_and_stop_seconds
        + STEPS * params.step_time_limit_minutes * 60
        + params.idle_timeout_minutes * 60
    )
    expected = _case(prices, fleets, params, min(plan.seconds, worst_seconds), images)
    limits = (
        f"both steps reach their limit of {params.step_time_limit_minutes} min, {params.idle_timeout_minutes} min idle"
    )
    assumptions = [
        f"rates from {plan.rates.source}",
        f"{plan.vcpus} vCPUs for tasks, all nodes running from start to end",
        "each fleet consists of the cheapest type with a known price (at least) or of the most expensive one (at most)",
        f"worst case: {limits}",
    ]
    if plan.size.task_nodes:
        assumptions.append(SPOT_NOTE)
    return {
        "prices": {"region": prices.region, "date": prices.date},
        "images": images,
        "expected": expected,
        "worst": _case(prices, fleets, params, worst_seconds, images),
        "unknown": _unknown(prices, fleets),
        "assumptions": assumptions,
    }


@dataclass(frozen=True)
class _Fleet:
    types: tuple[str, ...]
    units: int
    market: str


def _fleets(params: RunParams, size: Size) -> Iterator[_Fleet]:
    yield _Fleet((params.master_instance_type,), 1, "ON_DEMAND")
    if size.core_nodes:
        yield _Fleet(params.core_instance_types, size.core_nodes, "ON_DEMAND")
    if size.task_nodes:
        yield _Fleet(params.core_instance_types, size.task_nodes, "SPOT")


def _case(prices: Prices, fleets: Sequence[_Fleet], params: RunParams, seconds: float, images: int) -> ForecastCase:
    hours = seconds / SECONDS_PER_HOUR
    usd = total(_fleet_amount(prices, fleet, params, hours) for fleet in fleets)
    usd += request_amount(prices, images)
    return {"seconds": round(seconds), "usd": usd.record(), "eur": usd.times(prices.eur_per_usd).record()}


def _fleet_amount(prices: Prices, fleet: _Fleet, params: RunParams, hours: float) -> Amount:
    """Return a fleet's cost, from its cheapest to its most expensive type, because EMR chooses types by capacity."""
    choices = {name: _node_amount(prices, name, fleet, params, hours) for name in fleet.types}
    known = [choice.low for name, choice in choices.items() if prices.instance(name).on_demand is not None]
    highs = [choice.high for choice in choices.values() if choice.high is not None]
    return Amount(min(known, default=0.0), max(highs) if len(highs) == len(choices) else None)


def _node_amount(prices: Prices, name: str, fleet: _Fleet, params: RunParams, hours: float) -> Amount:
    nodes = [instance_types()[type_] for type_ in fleet.types]
    count = -(-fleet.units // weight(instance_types()[name], unit_vcpus(nodes)))  # rounded up
    gib_months = (params.ebs_gib + ROOT_VOLUME_GIB) * hours * SECONDS_PER_HOUR / MONTH_SECONDS
    node = total(
        (
            node_amount(prices, name, fleet.market, hours),
            Amount.of(prices.instance(name).emr, hours),
            Amount.of(prices.ebs.get("gp3"), gib_months),
        )
    )
    return node.times(count)


def _unknown(prices: Prices, fleets: Sequence[_Fleet]) -> list[str]:
    names = list(dict.fromkeys(name for fleet in fleets for name in fleet.types))
    unknown = [f"EC2's price of {name}" for name in names if prices.instance(name).on_demand is None]
    unknown += [f"EMR's surcharge on {name}" for name in names if prices.instance(name).emr is None]
    unknown += [] if "gp3" in prices.ebs else ["EBS's price of gp3"]
    unknown += [] if {"get_per_1000", "put_per_1000"} <= set(prices.s3) else ["S3's price of requests"]
    return unknown


def check_cap(forecast: Forecast, max_cost_eur: float | None) -> None:
    """Stop a run whose forecast exceeds the cap, or is incomplete while a cap is set.

    The cap is compared with the upper bound of the expected cost.

    Raises
    ------
    CostCapError
        The message has the forecast, the cap and the remedy.
    """
    if max_cost_eur is None:
        return
    eur = forecast["expected"]["eur"]
    summary = f"the forecast (expected case) is {describe_amount(eur)}, with prices of {forecast['prices']['date']}"
    if eur["high"] is None:
        raise CostCapError(
            f"max_cost_eur={max_cost_eur:g}: {summary}; these prices are unknown: "
            f"{', '.join(forecast['unknown'])}. Set FRUITS_PRICE_TABLE to a table that has them (`make prices` writes "
            "one), or leave max_cost_eur empty"
        )
    if eur["high"] > max_cost_eur:
        raise CostCapError(
            f"max_cost_eur={max_cost_eur:g}: {summary}. Raise the cap, use fewer or cheaper nodes (max_worker_nodes, "
            "deadline_minutes, core_instance_types), or fewer images (data_prefix, image_pattern)"
        )


def describe_forecast(forecast: Forecast) -> str:
    """Return the forecast as one line for the log."""
    expected, worst = forecast["expected"], forecast["worst"]
    images = f"{forecast['images']:,} images"
    parts = [
        f"{describe_amount(expected['eur'])} in {expected['seconds'] / 60:.0f} min for {images}",
        f"at worst {describe_amount(worst['eur'])} in {worst['seconds'] / 60:.0f} min",
    ]
    if forecast["unknown"]:
        parts.append(f"UNKNOWN, never guessed: {', '.join(forecast['unknown'])}")
    return "; ".join(parts)
