"""Local files: the featurize rate as a share of the bare loop's rate, and the fixed cost of a job."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import cores, photos, pipeline, process
from benchmarks.rates import fixed_seconds, marginal_rate, median
from benchmarks.table import Bench, markdown

DESCRIPTION = "our featurize step on local files against a bare loop of decode, resize and LiteRT on the same cores"

LAPS = 3
SIZES = (1_000, 5_000, 20_000)
ONE_CORE_SIZES = 2
"""Number of sizes, the smallest ones, that are measured on one core."""

BARE_PHOTOS_PER_CORE = 2_000
GOAL_SHARE = 0.9
GOAL_FIXED_SECONDS = 6.0


def measure(bench: Bench) -> dict[str, Any]:
    """Measure the bare loop and the step in turn, on all cores and on one.

    Raises
    ------
    SystemExit
        If a photo has no features or the times give no rate.
    """
    sizes = check_sizes(bench.sizes or SIZES)
    folders = photos.prepare(bench, sizes)
    everything = len(cores.available())
    plan = {everything: sizes} if everything == 1 else {everything: sizes, 1: sizes[:ONE_CORE_SIZES]}
    laps: dict[int, list[dict[str, Any]]] = {count: [] for count in plan}
    for number in range(bench.laps or LAPS):
        for count, some in plan.items():
            lap = run_lap(bench, {size: folders[size] for size in some}, count, f"{count}-cores-{number}")
            laps[count].append(lap)
            print(f"{count} core(s), lap {number + 1}: {lap_text(lap)}", flush=True)
    sides = [summarize(count, plan[count], each) for count, each in laps.items()]
    return {"sides": sides, "speed_up": speed_up(sides), "goal_share": GOAL_SHARE, "goal_fixed": GOAL_FIXED_SECONDS}


def check_sizes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes.

    Raises
    ------
    SystemExit
        If there are fewer than two: a rate needs two.
    """
    if len(sizes) < 2:
        raise SystemExit(f"--sizes {', '.join(map(str, sizes))}: a rate needs two sizes or more")
    return sizes


def run_lap(bench: Bench, folders: dict[int, Path], count: int, name: str) -> dict[str, Any]:
    """Run the bare loop, then the step at each size, on this number of cores."""
    bench = replace(bench, master=f"local[{count}]")
    with cores.pinned(count):
        bare = run_bare_loop(bench, folders[max(folders)], min(max(folders), BARE_PHOTOS_PER_CORE * count), count)
        steps = {size: pipeline.featurize(bench, folder, f"{name}-{size}") for size, folder in folders.items()}
    for size, step in steps.items():
        check_rows(step["summary"], size)
    return {"bare": bare, "steps": steps}


def run_bare_loop(bench: Bench, folder: Path, count: int, processes: int) -> dict[str, float]:
    """Return the photos per second of each bare loop, with the same memory sampling as the step."""
    measured = process.measure_module(
        "benchmarks.bare_loop",
        *(f"--images={folder}", f"--model={bench.model}", f"--photos={count}", f"--processes={processes}"),
        folder=bench.work,
        environment={**os.environ, "OMP_NUM_THREADS": "1"},
        log_file=bench.work / "bare_loop.log",
    )
    return {name: round(loop["photos"] / loop["seconds"], 2) for name, loop in measured.figures.items()}


def check_rows(summary: dict[str, Any], count: int) -> None:
    """Compare the written rows with the number of photos.

    Raises
    ------
    SystemExit
        If a photo has no features.
    """
    if (summary["listed"], summary["features"], summary["rejects"]) != (count, count, 0):
        figures = ", ".join(f"{name} {summary[name]}" for name in ("listed", "features", "rejects"))
        raise SystemExit(f"{count} photos gave {figures}: expected features of every photo")


def lap_text(lap: dict[str, Any]) -> str:
    """Return a one-line summary of a lap."""
    steps = ", ".join(f"{size} photos {step['seconds']:.1f} s" for size, step in lap["steps"].items())
    return f"bare loop {lap['bare']['plain']:.1f} images/s, {steps}"


def summarize(count: int, sizes: tuple[int, ...], laps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of the laps on this number of cores, and the rates and costs derived from them."""
    seconds = {size: median(lap["steps"][size]["seconds"] for lap in laps) for size in sizes}
    bare = {name: median(lap["bare"][name] for lap in laps) for name in laps[0]["bare"]}
    fewer, more = sizes[-2:]
    rate = marginal_rate(fewer, seconds[fewer], more, seconds[more])
    fixed = fixed_seconds(fewer, seconds[fewer], rate)
    return {
        "cores": count,
        "laps": [
            {
                "bare_images_per_second": lap["bare"],
                "seconds": {str(size): step["seconds"] for size, step in lap["steps"].items()},
            }
            for lap in laps
        ],
        "bare_images_per_second": bare,
        "marginal_between": [fewer, more],
        "marginal_images_per_second": round(rate, 2),
        "share_of_bare": round(rate / max(bare.values()), 3),
        "fixed_seconds": round(fixed, 2),
        "fixed_by_stage": fixed_by_stage(stages([lap["steps"][fewer] for lap in laps]), fewer / rate),
        "sizes": [
            {
                "images": size,
                "seconds": seconds[size],
                "images_per_second": round(size / seconds[size], 1),
                "ms_per_image": round(1000 * seconds[size] / size, 3),
                "ms_per_image_without_fixed": round(1000 * (seconds[size] - fixed) / size, 3),
                "peak_memory_mib": max(lap["steps"][size]["peak_memory_mib"] for lap in laps),
                "stages": stages([lap["steps"][size] for lap in laps]),
            }
            for size in sizes
        ],
    }


def stages(steps: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median seconds of each job stage, and of the time outside the job: JVM, imports, shutdown."""
    inner = [step["summary"]["seconds"] for step in steps]
    medians = {name: median(each[name] for each in inner) for name in inner[0] if name != "total"}
    unnamed = median(each["total"] - sum(each[name] for name in medians) for each in inner)
    outer = median(step["seconds"] - each["total"] for step, each in zip(steps, inner, strict=True))
    return {**medians, "counts and summary": unnamed, "JVM, imports and end": outer}


def fixed_by_stage(seconds: dict[str, float], at_the_rate: float) -> dict[str, float]:
    """Return the fixed cost of each stage: its seconds without the images' share at the marginal rate."""
    return {name: round(value - at_the_rate * (name == "featurize"), 3) for name, value in seconds.items()}


def speed_up(sides: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return how many times faster all cores are than one; None on a machine with one core."""
    if len(sides) < 2:
        return None
    everything, one = sides
    size = one["sizes"][-1]["images"]
    seconds = {side["cores"]: {each["images"]: each["seconds"] for each in side["sizes"]}[size] for side in sides}
    return {
        "images": size,
        "wall": round(seconds[one["cores"]] / seconds[everything["cores"]], 2),
        "marginal": round(everything["marginal_images_per_second"] / one["marginal_images_per_second"], 2),
        "bare": round(everything["bare_images_per_second"]["plain"] / one["bare_images_per_second"]["plain"], 2),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """Return three tables: the sizes, the rates, and the stages on all cores."""
    header = ["cores, images", "seconds", "images/s", "ms an image", "… without fixed cost", "peak MiB"]
    rows = [
        [
            f"{side['cores']} core(s), {size['images']:,}",
            f"{size['seconds']:.1f}",
            f"{size['images_per_second']:.1f}",
            f"{size['ms_per_image']:.2f}",
            f"{size['ms_per_image_without_fixed']:.2f}",
            str(size["peak_memory_mib"]),
        ]
        for side in result["sides"]
        for size in side["sizes"]
    ]
    shown = [*markdown(header, rows), "", *markdown(*_rates(result)), ""]
    shown += markdown(*_stages(result["sides"][0]))
    if result["speed_up"]:
        times = result["speed_up"]
        shown.append("")
        shown.append(
            f"All cores against one, at {times['images']:,} images: {times['wall']} times the speed; at the margin "
            f"{times['marginal']} times; the bare loop {times['bare']} times."
        )
    return shown


def _rates(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["", *(f"{side['cores']} core(s)" for side in result["sides"])]

    def row(name: str, *keys: str, form: str = "{:.1f}") -> list[str]:
        cells = []
        for side in result["sides"]:
            value: Any = side
            for key in keys:
                value = value[key]
            cells.append(form.format(value))
        return [name, *cells]

    return header, [
        row("bare loop, Pillow and LiteRT: images/s", "bare_images_per_second", "plain"),
        row("bare loop, the jobs' functions: images/s", "bare_images_per_second", "jobs"),
        row("our step at the margin: images/s", "marginal_images_per_second"),
        row(f"share of the faster bare loop (goal {result['goal_share']:.0%})", "share_of_bare", form="{:.1%}"),
        row(f"fixed cost, seconds (goal {result['goal_fixed']:.0f})", "fixed_seconds"),
    ]


def _stages(side: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = [
        f"stage on {side['cores']} core(s), seconds",
        *(f"{size['images']:,} images" for size in side["sizes"]),
        f"fixed, from {side['marginal_between'][0]:,} images",
    ]
    columns = [*(size["stages"] for size in side["sizes"]), side["fixed_by_stage"]]
    return header, [[name, *(f"{column[name]:.1f}" for column in columns)] for name in side["fixed_by_stage"]]
