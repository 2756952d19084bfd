"""The notebook's pipeline and ours on the same photos: total time and time of each stage."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import pipeline, process
from benchmarks.rates import median
from benchmarks.table import Bench, markdown

DESCRIPTION = "the notebook's pipeline and ours, from photos to CSV, stage by stage"

OUR_LAPS = 3
NOTEBOOK_LAPS = 1
"""One lap, since a lap takes minutes."""


def measure(bench: Bench) -> dict[str, Any]:
    """Run both pipelines and check that they agree.

    Raises
    ------
    SystemExit
        If rows or dimensions differ, or k differs by more than 1.
    """
    ours = [lap_of("ours", lap, lambda lap=lap: pipeline.run(bench, lap)) for lap in range(bench.laps or OUR_LAPS)]
    seed = [
        lap_of("notebook", lap, lambda lap=lap: run_notebook(bench, bench.work / f"seed-{lap}"))
        for lap in range(bench.laps or NOTEBOOK_LAPS)
    ]
    result = {"images": bench.count, "notebook": summarize(seed), "ours": summarize(ours)}
    result["ratio"] = round(result["notebook"]["median"]["total"] / result["ours"]["median"]["total"], 2)
    check(result)
    return result


def lap_of(who: str, lap: int, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run one lap and print its time."""
    result = work()
    print(f"{who}, lap {lap + 1}: {result['seconds']['total']:.1f} s, k = {result['k']}", flush=True)
    return result


def run_notebook(bench: Bench, output: Path) -> dict[str, Any]:
    """Run the notebook's pipeline in a separate process; the total is the process's wall-clock time."""
    output.mkdir(parents=True)
    measured = process.measure_module(
        "benchmarks.notebook",
        *(f"--master={bench.master}", f"--images={bench.images}", f"--output={output}", f"--weights={bench.weights}"),
        folder=output,
        environment={**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"},
        log_file=output / "log",
    )
    result = measured.figures
    stages = {name: value for name, value in result["seconds"].items() if name != "total"}
    rest = measured.seconds - sum(stages.values())
    return {
        **result,
        "seconds": {**stages, "the process's own start and end": round(rest, 3), "total": round(measured.seconds, 3)},
    }


def summarize(laps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the laps and the median of each stage; rows, dimensions and k must be the same in all laps."""
    figures = {name: laps[0][name] for name in ("rows", "dimensions", "k")}
    for lap in laps:
        if {name: lap[name] for name in figures} != figures:
            raise SystemExit(f"laps differ: {lap} and {figures}")
    medians = {name: median(lap["seconds"][name] for lap in laps) for name in laps[0]["seconds"]}
    return {**figures, "laps": [lap["seconds"] for lap in laps], "median": medians}


def check(result: dict[str, Any]) -> None:
    """Raise if the results differ: a faster pipeline with another result is no improvement."""
    notebook, ours = result["notebook"], result["ours"]
    for name in ("rows", "dimensions"):
        if notebook[name] != ours[name]:
            raise SystemExit(f"{name} differ: the notebook has {notebook[name]}, ours {ours[name]}")
    if ours["rows"] != result["images"]:
        raise SystemExit(f"{ours['rows']} rows for {result['images']} photos")
    if abs(notebook["k"] - ours["k"]) > 1:
        raise SystemExit(f"k differs by more than 1: the notebook has {notebook['k']}, ours {ours['k']}")


def lines(result: dict[str, Any]) -> list[str]:
    """Return the stages of both pipelines and the ratio."""
    shown: list[str] = []
    for who in ("notebook", "ours"):
        side = result[who]
        stages = [[stage, f"{seconds:.1f}"] for stage, seconds in side["median"].items()]
        head = f"{who}: {side['rows']} rows, k = {side['k']}, median of {len(side['laps'])} lap(s)"
        shown += [*markdown([head, "seconds"], stages), ""]
    return [*shown, f"ours is {result['ratio']} times faster"]
