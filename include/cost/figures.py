"""What a cluster is expected to do, and what it has done: the same figures, side by side in the manifest. Pure."""

from __future__ import annotations

from include.cluster.planning import SizePlan
from include.cost.account import SECONDS_PER_HOUR
from include.cost.money import Amount, describe_amount
from include.records import AmountRecord, ClusterFigures, ClusterPlan, Cost, Forecast
from spark_jobs.records import ChangeCounts, FeaturizeSummary, PcaSummary, Seconds

FEATURIZE_STAGES = ("featurize", "write")
PCA_STAGES = ("moments", "scores", "csv")
"""The stages of the jobs that grow with the number of images. All other time counts as start and stop."""

PRICE_DIGITS = 12
"""Decimals of the cost of an image, which is far below a cent."""


def plan_figures(plan: SizePlan, forecast: Forecast) -> ClusterPlan:
    """Return the record of a planned cluster.

    Parameters
    ----------
    plan : SizePlan
        The cluster.
    forecast : dict
        Its forecast cost.
    """
    figures = _figures(
        vcpus=plan.vcpus,
        images=plan.work.images,
        bytes_=plan.work.bytes,
        listed=plan.work.listed,
        featurize_seconds=plan.featurize_seconds,
        pca_seconds=plan.pca_seconds,
        seconds=plan.seconds,
        eur=forecast["expected"]["eur"],
    )
    return {
        **figures,
        "core_nodes": plan.size.core_nodes,
        "task_nodes": plan.size.task_nodes,
        "deadline_minutes": plan.deadline_minutes,
        "meets_deadline": plan.meets_deadline,
        "rates": plan.rates.source,
    }


def measure_figures(
    plan: ClusterPlan, found: ChangeCounts, featurize: FeaturizeSummary, pca: PcaSummary, cost: Cost | None
) -> ClusterFigures:
    """Return what a run's cluster has done.

    Parameters
    ----------
    plan : dict
        The planned cluster.
    found : dict
        ``work_bytes`` is the size of the images that were computed.
    featurize, pca : dict
        The jobs' summaries.
    cost : dict or None
        The cost of the run; None if it could not be computed. Without it, and if the run needed several clusters, the
        lifetime of the cluster is unknown.
    """
    return _figures(
        vcpus=plan["vcpus"],
        images=featurize["featurized"],
        bytes_=found["work_bytes"],
        listed=pca["images"],
        featurize_seconds=_sum(featurize["seconds"], FEATURIZE_STAGES),
        pca_seconds=_sum(pca["seconds"], PCA_STAGES),
        seconds=_lifetime(cost),
        eur=cost["eur"] if cost else None,
    )


def _sum(seconds: Seconds, stages: tuple[str, ...]) -> float:
    return sum(seconds.get(stage, 0.0) for stage in stages)


def _lifetime(cost: Cost | None) -> float | None:
    """Return how long the primary node lived, in seconds; None if there were several or none."""
    primary = [fleet for fleet in cost["fleets"] if fleet["fleet"] == "MASTER"] if cost else []
    if sum(fleet["instances"] for fleet in primary) != 1:
        return None
    return primary[0]["hours"] * SECONDS_PER_HOUR


def _figures(
    *,
    vcpus: int,
    images: int,
    bytes_: int,
    listed: int,
    featurize_seconds: float,
    pca_seconds: float,
    seconds: float | None,
    eur: AmountRecord | None,
) -> ClusterFigures:
    start_and_stop = None if seconds is None else max(seconds - featurize_seconds - pca_seconds, 0.0)
    is_rated = bool(images and featurize_seconds)
    return {
        "vcpus": vcpus,
        "images": images,
        "bytes": bytes_,
        "listed": listed,
        "images_per_second_per_vcpu": round(images / featurize_seconds / vcpus, 3) if is_rated else None,
        "start_and_stop_seconds": None if start_and_stop is None else round(start_and_stop, 1),
        "featurize_seconds": round(featurize_seconds, 1),
        "pca_seconds": round(pca_seconds, 1),
        "seconds": None if seconds is None else round(seconds, 1),
        "eur": eur,
        "start_and_stop_eur": _share(eur, start_and_stop, seconds),
        "eur_per_image_at_the_margin": _share(eur, featurize_seconds, seconds, images),
        "eur_per_image": _share(eur, seconds, seconds, images),
    }


def _share(
    eur: AmountRecord | None, part: float | None, seconds: float | None, images: int | None = None
) -> AmountRecord | None:
    """Return the cost of a part of the lifetime, or of each of some images in it; None if it is not known."""
    if eur is None or part is None or not seconds or images == 0:
        return None
    share = Amount.read(eur).times(min(part / seconds, 1.0))
    return share.record() if images is None else share.times(1 / images).record(PRICE_DIGITS)


def describe_plan(plan: ClusterPlan) -> str:
    """Return a planned cluster as one line: images, nodes, minutes, cost, and how much of it is start and stop."""
    images = f"{plan['images']:,} of {plan['listed']:,} images ({plan['bytes'] / 1e6:,.1f} MB) to compute"
    parts = [
        f"{images}: {_describe_nodes(plan)}, {plan['vcpus']} vCPUs",
        f"{_minutes(plan['seconds'])} min, {_minutes(plan['start_and_stop_seconds'])} of them to start and stop",
        f"{_describe_eur(plan['eur'])}, {_describe_eur(plan['start_and_stop_eur'])} of it to start and stop",
        f"the deadline of {plan['deadline_minutes']} min is {'met' if plan['meets_deadline'] else 'MISSED'}",
    ]
    return "; ".join(parts)


def describe_outcome(outcome: ClusterFigures, plan: ClusterPlan) -> str:
    """Return what a cluster has done as one line, each figure with the planned one."""
    rate, planned_rate = outcome["images_per_second_per_vcpu"], plan["images_per_second_per_vcpu"]
    waiting, planned = _minutes(outcome["start_and_stop_seconds"]), _minutes(plan["start_and_stop_seconds"])
    parts = [
        f"{_minutes(outcome['seconds'])} min (planned {_minutes(plan['seconds'])})",
        f"{waiting} min to start and stop (planned {planned})",
        f"{_number(rate)} images/s per vCPU (planned {_number(planned_rate)})",
        f"{_describe_eur(outcome['eur'])} (planned {_describe_eur(plan['eur'])})",
    ]
    return "; ".join(parts)


def _describe_nodes(plan: ClusterPlan) -> str:
    if not plan["core_nodes"]:
        return "the primary node alone"
    spot = f" and {plan['task_nodes']} spot task nodes" if plan["task_nodes"] else ""
    return f"a primary node, {plan['core_nodes']} core nodes{spot}"


def _describe_eur(amount: AmountRecord | None) -> str:
    return "unknown cost" if amount is None else describe_amount(amount)


def _minutes(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds / 60:.0f}"


def _number(value: float | None) -> str:
    return "no" if value is None else f"{value:.1f}"
