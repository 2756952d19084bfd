"""How fast clusters start and work, learned from the outcomes of earlier runs. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from include.records import ClusterFigures, Manifest
from spark_jobs.args import FeaturizeArgs

RECENT_STATES = 10
"""Number of published states from which a plan learns: enough for a median, and recent enough for today's photos."""

LEAST_IMAGES = 10_000
"""A run that computed fewer images says nothing about the speed: its tasks are too short."""

LEAST_PCA_IMAGES = 100_000
"""The same for pca, which processes some 40,000 images per second."""

IMAGES_PER_BYTE = FeaturizeArgs.images_per_task / FeaturizeArgs.bytes_per_task
"""Work of reading and decoding a byte, in images: the job plans its tasks with the same ratio (decision 0014)."""


@dataclass(frozen=True)
class Rates:
    """How fast a cluster starts and works.

    Attributes
    ----------
    images_per_second_per_vcpu : float
        Speed of featurize for tiny photos. A photo of b bytes counts as 1 + b · :data:`IMAGES_PER_BYTE` images.
    pca_seconds_per_image : float
        Time of the parts of pca that grow with the number of images. It does not depend on the number of nodes: some
        of these parts run on the driver.
    start_and_stop_seconds : float
        All other time of the cluster: from its creation to the first task, between the jobs, and to its termination.
    source : str
        Where the rates come from, for people.
    """

    images_per_second_per_vcpu: float
    pca_seconds_per_image: float
    start_and_stop_seconds: float
    source: str


ASSUMED = Rates(
    images_per_second_per_vcpu=214.03 / 2,
    pca_seconds_per_image=24e-6,
    start_and_stop_seconds=900.0,
    source="no earlier run: 214 images/s on 2 cores of an AMD EPYC (benchmarks/results/2026-11-27-compute.json), "
    "24 s per million images in pca (docs/performance.md); 15 minutes to start and stop the cluster are an assumption",
)
"""Used until runs on AWS are known. The measured cores differ from those of the cluster's instance types."""


def count_work(images: int, bytes_: int) -> float:
    """Return the work of some photos, in images of no bytes."""
    return images + bytes_ * IMAGES_PER_BYTE


def read_outcome(manifest: Manifest) -> ClusterFigures | None:
    """Return the outcome of the run that published a state; None if the run was not on AWS.

    Raises
    ------
    ValueError
        If the manifest is damaged.
    """
    try:
        if manifest["profile"] != "aws":
            return None
        outcome = manifest["sizing"]["outcome"]
        for value in (outcome["vcpus"], outcome["images"], outcome["bytes"], outcome["listed"]):
            if not (isinstance(value, int) and value >= 0):
                raise ValueError(f"{value!r} instead of a count")
        waiting = outcome["start_and_stop_seconds"]
        for seconds in (outcome["featurize_seconds"], outcome["pca_seconds"], 0.0 if waiting is None else waiting):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"{seconds!r} instead of seconds")
    except (KeyError, TypeError) as error:
        raise ValueError(f"it has no outcome that can be read ({type(error).__name__}: {error})") from error
    return outcome


def learn_rates(outcomes: Sequence[ClusterFigures]) -> Rates:
    """Return the typical rates of some runs; what no run has measured is assumed (:data:`ASSUMED`).

    Speeds are medians weighted by the number of images: a large run tells more than a small one, and a single slow run
    changes nothing. The time to start and stop is a plain median.

    Parameters
    ----------
    outcomes : sequence of ClusterFigures
        Outcomes of runs on AWS.
    """
    speed = _typical(outcomes, _speed, lambda outcome: outcome["images"])
    pca = _typical(outcomes, _pca_seconds_per_image, lambda outcome: outcome["listed"])
    waits = [wait for outcome in outcomes if (wait := outcome["start_and_stop_seconds"])]
    learned = {
        "images/s": speed is not None,
        "pca": pca is not None,
        "start and stop": bool(waits),
    }
    return Rates(
        ASSUMED.images_per_second_per_vcpu if speed is None else speed,
        ASSUMED.pca_seconds_per_image if pca is None else pca,
        statistics.median(waits) if waits else ASSUMED.start_and_stop_seconds,
        _describe_source(len(outcomes), learned),
    )


def _speed(outcome: ClusterFigures) -> float | None:
    seconds = outcome["featurize_seconds"] * outcome["vcpus"]
    if outcome["images"] < LEAST_IMAGES or not seconds:
        return None
    return count_work(outcome["images"], outcome["bytes"]) / seconds


def _pca_seconds_per_image(outcome: ClusterFigures) -> float | None:
    return None if outcome["listed"] < LEAST_PCA_IMAGES else outcome["pca_seconds"] / outcome["listed"]


def _typical(
    outcomes: Iterable[ClusterFigures],
    measure: Callable[[ClusterFigures], float | None],
    weigh: Callable[[ClusterFigures], int],
) -> float | None:
    """Return the weighted median of a measure; None if no outcome has it."""
    found = sorted((value, weigh(outcome)) for outcome in outcomes if (value := measure(outcome)) is not None)
    half, seen = sum(weight for _, weight in found) / 2, 0
    for value, weight in found:
        seen += weight
        if seen >= half:
            return value
    return None


def _describe_source(runs: int, learned: dict[str, bool]) -> str:
    measured = [name for name, is_learned in learned.items() if is_learned]
    if not measured:
        return ASSUMED.source
    text = f"the last {runs} runs on AWS ({', '.join(measured)})"
    assumed = [name for name, is_learned in learned.items() if not is_learned]
    return f"{text}; assumed: {', '.join(assumed)}" if assumed else text
