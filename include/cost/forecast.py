"""The forecast of a run's cost, and the cap that may stop the run. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from include.cluster.instance_types import instance_types
from include.cluster.request import ROOT_VOLUME_GIB
from include.cluster.sizing import unit_vcpus, weight
from include.cost.account import MONTH_SECONDS, SECONDS_PER_HOUR, SPOT_NOTE, node_amount, request_amount
from include.cost.money import Amount, describe_amount, total
from include.cost.prices import Prices
from include.records import Forecast, ForecastCase, Manifest
from include.settings.parameters import RunParams

STEPS = 2

LEAST_IMAGES = 1_000
"""A run that computed fewer images has no rate of its own: most of its time was the start of the job."""


class CostCapError(RuntimeError):
    """The forecast exceeds the cap, or a cap is set and the forecast is incomplete."""


@dataclass(frozen=True)
class Rates:
    """How fast the jobs run, and the source of these rates.

    Attributes
    ----------
    images_per_second_per_vcpu : float
        Throughput of the featurize job, without its fixed time.
    pca_seconds_per_image : float
        Duration of the pca job.
    overhead_seconds : float
        Lifetime of the cluster outside the two jobs: start, bootstrap action, termination.
    source : str
        Description of the source, for people.
    """

    images_per_second_per_vcpu: float
    pca_seconds_per_image: float
    overhead_seconds: float
    source: str


DEFAULT_RATES = Rates(
    images_per_second_per_vcpu=214.03 / 2,
    pca_seconds_per_image=24e-6,
    overhead_seconds=900.0,
    source="no earlier run: 214 images/s on 2 cores of an AMD EPYC (benchmarks/results/2026-11-27-compute.json), "
    "24 s per million images in pca (docs/performance.md); 15 minutes to start and stop the cluster are an assumption",
)
"""Used until a run on AWS is known. The measured cores differ from those of the cluster's instance types."""


def measured_rates(manifest: Manifest | None) -> Rates | None:
    """Return the rates of an earlier run; None for a local run, one with few images, or an incompatible manifest.

    Parameters
    ----------
    manifest : dict or None
        The manifest of the published run.
    """
    try:
        if manifest is None or manifest["profile"] != "aws":
            return None
        params, seconds = manifest["params"], manifest["featurize"]["seconds"]["total"]
        images, pca_seconds = manifest["featurize"]["features"], manifest["pca"]["seconds"]["total"]
        computed = manifest["featurize"]["featurized"]
        nodes = [instance_types()[name] for name in params["core_instance_types"]]
        vcpus = unit_vcpus(nodes) * (params["core_instance_count"] + params.get("task_instance_count", 0))
        cost = manifest.get("cost")
        masters = [fleet["hours"] for fleet in (cost["fleets"] if cost else []) if fleet["fleet"] == "MASTER"]
        lifetime = sum(masters) * SECONDS_PER_HOUR
        overhead = lifetime - seconds - pca_seconds if lifetime else DEFAULT_RATES.overhead_seconds
        if computed < LEAST_IMAGES or min(images, seconds, pca_seconds, vcpus, overhead) <= 0:
            return None
        return Rates(computed / seconds / vcpus, pca_seconds / images, overhead, f"the run {manifest['run']}")
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def forecast_cost(
    prices: Prices, params: RunParams, computed: int, images: int, rates: Rates | None = None
) -> Forecast:
    """Return the expected and the worst-case cost of a run.

    Parameters
    ----------
    prices : Prices
        The price table.
    params : RunParams
        Instance types, counts, disks and time limits.
    computed : int
        Number of images that featurize computes.
    images : int
        Number of all images, which pca reads.
    rates : Rates, optional
        How fast the jobs run; default: :data:`DEFAULT_RATES`.

    Returns
    -------
    dict
        For the manifest: ``expected`` and ``worst``, each with ``seconds``, ``usd`` and ``eur`` (``low`` and
        ``high``), ``images``, ``unknown`` and ``assumptions``.
    """
    rates = rates or DEFAULT_RATES
    fleets, vcpus = list(_fleets(params)), _vcpus(params)
    worst_seconds = (
        rates.overhead_seconds + STEPS * params.step_time_limit_minutes * 60 + params.idle_timeout_minutes * 60
    )
    featurize = computed / (rates.images_per_second_per_vcpu * vcpus)
    seconds = rates.overhead_seconds + featurize + rates.pca_seconds_per_image * images
    expected = _case(prices, fleets, params, min(seconds, worst_seconds), computed)
    limits = (
        f"both steps reach their limit of {params.step_time_limit_minutes} min, {params.idle_timeout_minutes} min idle"
    )
    assumptions = [
        f"rates from {rates.source}",
        f"{vcpus} vCPUs of core and task nodes, all running from start to end",
        "each fleet consists of the cheapest type with a known price (at least) or of the most expensive one (at most)",
        f"worst case: {limits}",
    ]
    if params.task_instance_count:
        assumptions.append(SPOT_NOTE)
    return {
        "prices": {"region": prices.region, "date": prices.date},
        "images": computed,
        "expected": expected,
        "worst": _case(prices, fleets, params, worst_seconds, computed),
        "unknown": _unknown(prices, fleets),
        "assumptions": assumptions,
    }


@dataclass(frozen=True)
class _Fleet:
    types: tuple[str, ...]
    units: int
    market: str


def _fleets(params: RunParams) -> Iterator[_Fleet]:
    yield _Fleet((params.master_instance_type,), 1, "ON_DEMAND")
    yield _Fleet(params.core_instance_types, params.core_instance_count, "ON_DEMAND")
    if params.task_instance_count:
        yield _Fleet(params.core_instance_types, params.task_instance_count, "SPOT")


def _vcpus(params: RunParams) -> int:
    nodes = [instance_types()[name] for name in params.core_instance_types]
    return unit_vcpus(nodes) * (params.core_instance_count + params.task_instance_count)


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
            f"max_cost_eur={max_cost_eur:g}: {summary}. Raise the cap, use fewer or cheaper nodes "
            "(core_instance_count, task_instance_count, core_instance_types), or fewer images (data_prefix, "
            "image_pattern)"
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
