"""Our PCA, Spark ML, scikit-learn and Dask-ML on the same features: time of a cold and a warm lap, and peak memory.

Every side reads the features' Parquet files, fits, projects, and writes the scores as lists of float64. A session is a
process that runs several laps: the first lap is cold, the second is warm. The sessions of the sides are interleaved, so
that a slower machine affects all sides. The results of every lap are compared with a reference.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import pipeline, process
from benchmarks.pca import checks, synthetic
from benchmarks.pca.ours import check_moments
from benchmarks.pca.sides import RAW, SIDES, STORED, Side, judge
from benchmarks.rates import median
from benchmarks.rivals import environments
from benchmarks.table import Bench, markdown
from spark_jobs.args import SEGMENTS_FOLDER, PcaArgs

DESCRIPTION = "our PCA against Spark ML's, scikit-learn's in memory and Dask-ML's, on the same features"

IMAGES = 40_000
DIMENSIONS = 1280
SESSIONS = 3
LAPS = 3
"""Number of laps of a session. The third lap shows whether the second was warm."""

TIME_LIMIT_SECONDS = 1800
"""Time limit of a session."""

PACKAGES = ("pyspark", "scikit-learn", "scipy", "dask-ml", "dask", "numpy", "pyarrow")


def measure(bench: Bench, sides: tuple[Side, ...] = SIDES, dimensions: int = DIMENSIONS) -> dict[str, Any]:
    """Run all sides, and the whole pca step as the DAG runs it, and check every lap.

    Parameters
    ----------
    bench : Bench
        Its largest size is the number of images, its number of laps the number of sessions.
    sides : tuple of Side
        Sides to measure.
    dimensions : int
        Number of features per image.

    Raises
    ------
    SystemExit
        If a session fails, or a lap's result differs from the reference.
    """
    images = max(bench.sizes, default=IMAGES)
    pythons = {name: environments.installed(name) for name in {side.environment for side in sides} if name}
    synthetic.write_run(pipeline.run_folder(bench, "stored"), images, dimensions)
    synthetic.link_without_moments(pipeline.run_folder(bench, "stored"), pipeline.run_folder(bench, "raw"))
    features = pipeline.run_folder(bench, "raw") / SEGMENTS_FOLDER
    expected = checks.reference(features, PcaArgs.variance_target)
    print(f"{images} x {dimensions} features, {expected.k} components", flush=True)
    sessions: dict[str, list[dict[str, Any]]] = {side.key: [] for side in sides}
    steps: dict[str, list[dict[str, Any]]] = {"raw": [], "stored": []}
    count = bench.laps or SESSIONS
    for number in range(1, count + 1):
        for side in sides:
            session = run_session(bench, side, pythons, expected, number)
            sessions[side.key].append(session)
            print(f"{side.name}, session {number} of {count}: {session_text(session)}", flush=True)
        for name, step_laps in steps.items():
            step_laps.append(run_step(bench, name, expected))
            print(f"the whole step, {name}, {number} of {count}: {step_laps[-1]['seconds']:.1f} s", flush=True)
    summaries = {side.key: summarize(side, sessions[side.key]) for side in sides}
    return {
        "images": images,
        "dimensions": dimensions,
        "k": expected.k,
        "sessions": count,
        "tolerance": {"ratio": checks.RATIO_TOLERANCE, "score": checks.SCORE_TOLERANCE},
        "versions": {name: environments.versions(python, PACKAGES) for name, python in pythons.items()},
        "sides": summaries,
        "steps": {name: summarize_steps(step_laps) for name, step_laps in steps.items()},
        "goals": judge(summaries),
    }


def run_session(
    bench: Bench, side: Side, pythons: Mapping[str, Path], expected: checks.Reference, number: int
) -> dict[str, Any]:
    """Run one session in an empty folder, check the scores of its laps, and delete the folder."""
    folder = bench.work / f"{side.key}-{number}"
    output, scratch, log = folder / "output", folder / "scratch", bench.work / f"{side.key}-{number}.log"
    output.mkdir(parents=True)
    scratch.mkdir()
    measured = process.measure_module(
        f"benchmarks.pca.{side.module}",
        *(f"--run={pipeline.run_folder(bench, side.run)}", f"--output={output}"),
        *(f"--k={expected.k}", f"--variant={side.variant}", f"--laps={LAPS}"),
        python=pythons.get(side.environment, sys.executable),
        folder=scratch,
        environment=environment(bench, side, scratch),
        log_file=log,
        time_limit_seconds=TIME_LIMIT_SECONDS,
    )
    figures = measured.figures
    for lap, done in enumerate(figures["laps"], start=1):
        try:
            difference = checks.check(
                output / f"lap-{lap}", done.pop("ratio"), expected, centred=side.centred, exact=side.exact
            )
        except ValueError as error:
            raise SystemExit(f"{side.name}, session {number}, lap {lap}: {error}") from error
        done["difference"] = asdict(difference)
    shutil.rmtree(folder)
    return {**figures, "seconds": round(measured.seconds, 3), "peak_memory_mib": round(measured.peak_memory_mib)}


def environment(bench: Bench, side: Side, scratch: Path) -> dict[str, str]:
    """Return the environment of a session: ours has the settings of a step, the others have the defaults of a user."""
    if side.module == RAW.module:
        return pipeline.driver_environment(os.environ, master=bench.master, scratch=scratch)
    submit = f"--master {bench.master} --conf spark.ui.enabled=false pyspark-shell"
    return {**environments.variables(os.environ, scratch=scratch), "PYSPARK_SUBMIT_ARGS": submit}


def run_step(bench: Bench, name: str, expected: checks.Reference) -> dict[str, Any]:
    """Run the whole step on a run, and check the source of its moments and the numbers of images and components."""
    step = pipeline.pca(bench, name)
    summary = step["summary"]
    moments = summary["moments"]
    check_moments(name, stored=moments["stored"], computed=moments["computed"])
    if (summary["images"], summary["k"]) != (len(expected.rows), expected.k):
        raise SystemExit(f"the whole step, {name}: {summary['images']} images and {summary['k']} components")
    return step


def session_text(session: dict[str, Any]) -> str:
    """Return a one-line summary of a session."""
    laps = ", ".join(f"{lap['seconds']:.2f}" for lap in session["laps"])
    worst = max(lap["difference"]["score"] for lap in session["laps"])
    return (
        f"start {session['start_seconds']:.1f} s, laps {laps} s, {session['peak_memory_mib']} MiB, "
        f"scores differ by {worst:.0e}"
    )


def summarize(side: Side, sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the sessions of a side, and medians over them: start, each lap, memory, and stages of the second lap."""
    laps = [[session["laps"][number] for session in sessions] for number in range(LAPS)]
    return {
        "name": side.name,
        "module": side.module,
        "exact": side.exact,
        "stock": side.stock,
        "start_seconds": median(session["start_seconds"] for session in sessions),
        "cold_seconds": median(lap["seconds"] for lap in laps[0]),
        "warm_seconds": median(lap["seconds"] for lap in laps[1]),
        "third_seconds": median(lap["seconds"] for lap in laps[2]),
        "warm_stages": {name: median(lap["stages"][name] for lap in laps[1]) for name in laps[1][0]["stages"]},
        "peak_memory_mib": median(session["peak_memory_mib"] for session in sessions),
        "largest_difference": {
            name: max(lap["difference"][name] for session in sessions for lap in session["laps"])
            for name in ("ratio", "score")
        },
        "sessions": sessions,
    }


def summarize_steps(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of the whole step: its time, its memory, and the stages of the job."""
    stages = [step["summary"]["seconds"] for step in steps]
    return {
        "seconds": median(step["seconds"] for step in steps),
        "peak_memory_mib": median(step["peak_memory_mib"] for step in steps),
        "stages": {name: median(each[name] for each in stages) for name in stages[0]},
        "laps_seconds": [step["seconds"] for step in steps],
    }


def lines(result: dict[str, Any]) -> list[str]:
    """Return a row for each side, with how many times faster ours is when warm; the whole step; and the goals."""
    sides = result["sides"]
    header = ["pca", "s start", "s cold", "s warm", "s third lap", "peak MiB", "scores differ by"]
    ours = {key: sides[key]["warm_seconds"] for key in (RAW.key, STORED.key) if key in sides}
    header += [f"{key.partition('-')[2]} x" for key in ours]
    rows = [
        [
            side["name"],
            *(f"{side[name]:.2f}" for name in ("start_seconds", "cold_seconds", "warm_seconds", "third_seconds")),
            f"{side['peak_memory_mib']:.0f}",
            f"{side['largest_difference']['score']:.0e}",
            *(f"{side['warm_seconds'] / seconds:.2f}" for seconds in ours.values()),
        ]
        for side in sides.values()
    ]
    for name, step in result["steps"].items():
        title = f"the whole step, {name}: with start, model, CSV and certificate"
        cold, memory = f"{step['seconds']:.2f}", f"{step['peak_memory_mib']:.0f}"
        rows.append([title, "", cold, "", "", memory, "", *([""] * len(ours))])
    note = (
        f"{result['images']:,} x {result['dimensions']} features, {result['k']} components; median of "
        f"{result['sessions']} session(s) with {LAPS} laps each, and of the same number of runs of the whole step. "
        "Differences of scores are relative to the largest score of the reference. The sides in float32 and the solver "
        "auto of scikit-learn are not exact. Last columns: how many times as fast ours is, warm lap against warm lap."
    )
    goals = [
        f"- {goal['side']}, {goal['goal']}: {goal['times']:.2f} times as fast as {goal['rival']} "
        f"(goal {goal['goal_times']:.2f}): {'reached' if goal['reached'] else 'MISSED'}"
        for goal in result["goals"]
    ]
    return [*markdown(header, rows), "", note, "", *goals, *_comparisons_without_goal(sides)]


def _comparisons_without_goal(sides: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return how many times as fast ours is as the exact sides with added libraries."""
    shown = []
    for other in sides.values():
        for ours in (sides[key] for key in (RAW.key, STORED.key) if key in sides):
            if other["exact"] and not other["stock"]:
                times = other["warm_seconds"] / ours["warm_seconds"]
                shown.append(f"- no goal, {ours['name']}: {times:.2f} times as fast as {other['name']}")
    return shown
