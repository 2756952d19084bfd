"""The rivals and our featurize step on the same photos, in one run: wall clock, marginal rate and peak memory.

The laps of the sides are interleaved, so that a slower machine affects all sides. The time of a lap is that of the
side's main process; it includes the start of sessions, workers and models. The rows of every lap are checked.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import photos, pipeline, process, rates
from benchmarks.inputs import PATTERN
from benchmarks.rivals import checks, environments
from benchmarks.table import Bench, markdown
from local.images.loading import find_images
from spark_jobs.args import FEATURES_FILE, MODEL_FILE, SEGMENTS_FOLDER

DESCRIPTION = "our featurize step against other systems, with Keras and with our LiteRT model"

LAPS = 3
SIZES = (960, 4800)

TIME_LIMIT_SECONDS = 1800
"""Time limit of a lap."""

PACKAGES = ("pyspark", "ray", "daft", "tensorflow-cpu", "tensorflow", "keras", "ai-edge-litert", "numpy", "pillow")

OFFLINE = {"RAY_USAGE_STATS_ENABLED": "0", "DAFT_ANALYTICS_ENABLED": "0", "DO_NOT_TRACK": "true"}
"""Disables the usage statistics of the systems, so that no side waits for their servers."""


@dataclass(frozen=True)
class Side:
    """One row of the table.

    Attributes
    ----------
    name : str
        Name in the table.
    engine : str
        ``keras`` or ``litert``.
    module : str
        Module of this package that runs the side; empty for ours.
    environment : str
        Name of its requirements file.
    """

    name: str
    engine: str
    module: str = ""
    environment: str = ""

    @property
    def key(self) -> str:
        """Name of the side in results and folders."""
        return f"{self.module or 'ours'}-{self.engine}"


OURS = Side("ours", "litert")
"""It runs first in every lap, since the features of the others are compared with its features."""

RIVALS = tuple(
    Side(name, engine, module, f"{system}-{engine}")
    for name, module, system in (
        ("the notebook's way", "notebook_way", "spark"),
        ("Spark predict_batch_udf", "predict_batch", "spark"),
        ("Ray Data", "ray_data", "ray"),
        ("Daft", "daft_way", "daft"),
    )
    for engine in ("keras", "litert")
)
SIDES = (OURS, *RIVALS)


@dataclass(frozen=True)
class Lap:
    """Duration and memory of a lap, and the maximum difference of its features from ours."""

    seconds: float
    peak_memory_mib: float
    difference: float


def measure(bench: Bench) -> dict[str, Any]:
    """Run all sides at all sizes and check every lap.

    Returns
    -------
    dict
        ``sizes``, ``laps``, ``tolerance``, ``versions`` by environment, and ``sides``: the summary of each side by
        :attr:`Side.key`.

    Raises
    ------
    SystemExit
        If a lap fails, its rows are not those of the photos, or its features differ from ours.
    """
    sizes = bench.sizes or SIZES
    count = bench.laps or LAPS
    pythons = {name: environments.installed(name) for name in sorted({side.environment for side in RIVALS})}
    laps: dict[str, dict[int, list[Lap]]] = {side.key: {size: [] for size in sizes} for side in SIDES}
    folders = photos.prepare(bench, sizes)
    for number in range(count):
        for size, images in folders.items():
            expected = frozenset(find_images(images, PATTERN))
            reference: checks.Features | None = None
            for side in SIDES:
                lap, features = _run(bench, side, pythons, images, expected, reference, number)
                reference = reference or features
                laps[side.key][size].append(lap)
                print(
                    f"{side.name} ({side.engine}), {size} photos, lap {number + 1} of {count}: {lap.seconds:.1f} s, "
                    f"{lap.peak_memory_mib:.0f} MiB, differs by {lap.difference:.1e}",
                    flush=True,
                )
    return {
        "sizes": list(sizes),
        "laps": count,
        "tolerance": checks.TOLERANCE,
        "versions": {name: environments.versions(python, PACKAGES) for name, python in pythons.items()},
        "sides": {side.key: summarize(side, laps[side.key]) for side in SIDES},
    }


def _run(
    bench: Bench,
    side: Side,
    pythons: dict[str, Path],
    images: Path,
    expected: frozenset[str],
    reference: checks.Features | None,
    number: int,
) -> tuple[Lap, checks.Features]:
    """Run one lap in an empty folder, check its rows, and delete them."""
    name = f"{side.key}-{len(expected)}-{number + 1}"
    if side is OURS:
        measured = pipeline.featurize(bench, images, name)
        folder = pipeline.run_folder(bench, name)
        output: Path | list[Path] = sorted((folder / SEGMENTS_FOLDER).glob(f"*/{FEATURES_FILE}"))
        log = bench.work / f"featurize-{name}.log"
        seconds, memory = measured["seconds"], measured["peak_memory_mib"]
    else:
        folder, output = bench.work / name, bench.work / name / "output"
        log = bench.work / f"{name}.log"
        cost = _run_rival(bench, side, pythons[side.environment], images, folder, log)
        seconds, memory = round(cost.seconds, 3), round(cost.peak_memory_mib)
    try:
        features = checks.read(output, images)
        checks.check(features, expected)
        difference = checks.difference(features, reference or features)
    except ValueError as error:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SystemExit(f"{name}: {error}; its log ends with\n{tail}") from error
    shutil.rmtree(folder)
    return Lap(seconds, memory, difference), features


def _run_rival(bench: Bench, side: Side, python: Path, images: Path, folder: Path, log: Path) -> process.Measured:
    output, scratch = folder / "output", folder / "scratch"
    output.mkdir(parents=True)
    scratch.mkdir()
    # A short path for Ray's sockets, whose paths have at most 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray_folder:
        environment = {
            **environments.variables(os.environ, scratch=scratch),
            **OFFLINE,
            "PATH": f"{python.parent}:{os.environ.get('PATH', '')}",
            "RAY_TMPDIR": ray_folder,
        }
        return process.measure_module(
            f"benchmarks.rivals.{side.module}",
            *(f"--engine={side.engine}", f"--images={images}", f"--output={output}"),
            *(f"--model={bench.model / MODEL_FILE}", f"--weights={bench.weights}"),
            python=python,
            folder=scratch,
            environment=environment,
            log_file=log,
            time_limit_seconds=TIME_LIMIT_SECONDS,
        )


def summarize(side: Side, laps: dict[int, list[Lap]]) -> dict[str, Any]:
    """Return the laps of a side by size, their medians and images per second, and the marginal rate of the medians."""
    by_size: dict[str, Any] = {}
    for size, runs in laps.items():
        seconds = rates.median(lap.seconds for lap in runs)
        by_size[str(size)] = {
            "seconds": seconds,
            "images_per_second": round(size / seconds, 1),
            "peak_memory_mib": rates.median(lap.peak_memory_mib for lap in runs),
            "largest_difference": max(lap.difference for lap in runs),
            "laps_seconds": [lap.seconds for lap in runs],
            "laps_peak_memory_mib": [lap.peak_memory_mib for lap in runs],
        }
    medians = {int(size): figures["seconds"] for size, figures in by_size.items()}
    return {
        "name": side.name,
        "engine": side.engine,
        "sizes": by_size,
        "marginal_images_per_second": marginal_rate(medians),
    }


def marginal_rate(seconds: dict[int, float]) -> float | None:
    """Return the images per second between the smallest and the largest number of photos, without the fixed cost.

    Parameters
    ----------
    seconds : dict
        Wall-clock time by number of photos.

    Returns
    -------
    float or None
        None if there is only one size, or if the larger size took no longer: a small run gives no rate.
    """
    least, most = min(seconds), max(seconds)
    if seconds[most] <= seconds[least]:
        return None
    return round(rates.marginal_rate(least, seconds[least], most, seconds[most]), 1)


def lines(result: dict[str, Any]) -> list[str]:
    """Return the table: a row for each side; the last columns show how many times faster ours is."""
    sizes = [str(size) for size in result["sizes"]]
    sides = result["sides"]
    ours = sides[OURS.key]
    header = [
        "featurize",
        "engine",
        *(f"s at {size}" for size in sizes),
        *(f"images/s at {size}" for size in sizes),
        "marginal images/s",
        f"peak MiB at {sizes[-1]}",
        *(f"ours x at {size}" for size in sizes),
        "ours x marginal",
    ]
    rows = [
        [
            side["name"],
            side["engine"],
            *(f"{side['sizes'][size]['seconds']:.1f}" for size in sizes),
            *(f"{side['sizes'][size]['images_per_second']:.1f}" for size in sizes),
            _shown(side["marginal_images_per_second"], ".1f"),
            f"{side['sizes'][sizes[-1]]['peak_memory_mib']:.0f}",
            *(f"{side['sizes'][size]['seconds'] / ours['sizes'][size]['seconds']:.2f}" for size in sizes),
            _shown(ratio(ours["marginal_images_per_second"], side["marginal_images_per_second"]), ".2f"),
        ]
        for side in (sides[key] for key in _ordered(sides))
    ]
    largest = max(figures["largest_difference"] for side in sides.values() for figures in side["sizes"].values())
    note = (
        f"Median of {result['laps']} lap(s), including the start of workers and models; peak memory (PSS) of the "
        f"process tree; features differ from ours by at most {largest:.1e}."
    )
    return [*markdown(header, rows), "", note]


def _ordered(sides: dict[str, Any]) -> Sequence[str]:
    return [side.key for side in SIDES if side.key in sides]


def ratio(ours: float | None, other: float | None) -> float | None:
    """Return our rate divided by the other; None if a rate is unknown."""
    return None if ours is None or other is None else ours / other


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
