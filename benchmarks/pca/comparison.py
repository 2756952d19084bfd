"""Ours, Spark ML, scikit-learn and Dask-ML on the same features: seconds of a lap, cold and warm, and peak memory.

Every side reads the features' Parquet files, fits, projects and writes the scores as lists of float64. A session is a
process, and laps follow each other in it: the first is cold, the second is warm. Sessions are interleaved, so that a
machine that slows down does so for all, and every lap's results are held against a reference.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import pipeline, process
from benchmarks.inputs import REPOSITORY
from benchmarks.pca import checks, synthetic
from benchmarks.pca.ours import check_moments
from benchmarks.pca.sides import RAW, SIDES, STORED, Side, judge
from benchmarks.rates import median
from benchmarks.rivals import environments
from benchmarks.table import Bench, markdown
from include.cluster.sizing import DRIVER_HEAP_MIB
from spark_jobs.args import FEATURES_FOLDER, PcaArgs

DESCRIPTION = "our PCA against Spark ML's, scikit-learn's in memory and Dask-ML's, on the same features"

IMAGES = 40_000
DIMENSIONS = 1280
SESSIONS = 3
LAPS = 3
"""Laps of a session. The third tells whether the second was warm."""

TIME_LIMIT_SECONDS = 1800
"""A session that takes longer has failed."""

PACKAGES = ("pyspark", "scikit-learn", "scipy", "dask-ml", "dask", "numpy", "pyarrow")


def measure(bench: Bench, sides: tuple[Side, ...] = SIDES, dimensions: int = DIMENSIONS) -> dict[str, Any]:
    """Run all sides, and the whole step as the DAG runs it, and check every lap.

    Parameters
    ----------
    bench : Bench
        Of ``sizes`` the largest counts, of ``laps`` the number of sessions.
    sides : tuple of Side
    dimensions : int

    Raises
    ------
    SystemExit
        When a session fails, or a lap's result is not the reference's.
    """
    images = max(bench.sizes, default=IMAGES)
    pythons = {name: environments.installed(name) for name in {side.environment for side in sides} if name}
    synthetic.write_run(pipeline.run_folder(bench, "stored"), images, dimensions)
    synthetic.without_moments(pipeline.run_folder(bench, "stored"), pipeline.run_folder(bench, "raw"))
    features = pipeline.run_folder(bench, "raw") / FEATURES_FOLDER
    expected = checks.reference(features, PcaArgs.variance_target)
    print(f"{images} x {dimensions} features, {expected.k} components", flush=True)
    sessions: dict[str, list[dict[str, Any]]] = {side.key: [] for side in sides}
    steps: dict[str, list[dict[str, Any]]] = {"raw": [], "stored": []}
    count = bench.laps or SESSIONS
    for number in range(1, count + 1):
        for side in sides:
            session = run_session(bench, side, pythons, expected, number)
            sessions[side.key].append(session)
            print(f"{side.name}, session {number} of {count}: {shown(session)}", flush=True)
        for name, of_step in steps.items():
            of_step.append(run_step(bench, name, expected))
            print(f"the whole step, {name}, {number} of {count}: {of_step[-1]['seconds']:.1f} s", flush=True)
    summaries = {side.key: summarize(side, sessions[side.key]) for side in sides}
    return {
        "images": images,
        "dimensions": dimensions,
        "k": expected.k,
        "sessions": count,
        "tolerance": {"ratio": checks.RATIO_TOLERANCE, "score": checks.SCORE_TOLERANCE},
        "versions": {name: environments.versions(python, PACKAGES) for name, python in pythons.items()},
        "sides": summaries,
        "steps": {name: summarize_steps(of_step) for name, of_step in steps.items()},
        "goals": judge(summaries),
    }


def run_session(
    bench: Bench, side: Side, pythons: Mapping[str, Path], expected: checks.Reference, number: int
) -> dict[str, Any]:
    """Run one session in an empty folder, check its laps' scores, and delete them."""
    folder = bench.work / f"{side.key}-{number}"
    output, scratch, log = folder / "output", folder / "scratch", bench.work / f"{side.key}-{number}.log"
    output.mkdir(parents=True)
    scratch.mkdir()
    command = [
        *(str(pythons.get(side.environment, sys.executable)), "-m", f"benchmarks.pca.{side.module}"),
        *(f"--run={pipeline.run_folder(bench, side.run)}", f"--output={output}"),
        *(f"--k={expected.k}", f"--variant={side.variant}", f"--laps={LAPS}"),
    ]
    measured = process.measure(
        command,
        folder=scratch,
        environment=environment(bench, side, scratch),
        log_file=log,
        time_limit_seconds=TIME_LIMIT_SECONDS,
    )
    figures: dict[str, Any] = json.loads(measured.output.splitlines()[-1])
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
    """Return the environment of a session: for ours that of a step, for the others what a user has."""
    submit = f"--master {bench.master} --conf spark.ui.enabled=false"
    if side.module == RAW.module:
        of_side = pipeline.environment(os.environ, scratch=scratch)
        submit += f" --driver-memory {DRIVER_HEAP_MIB}m"
    else:
        of_side = {name: value for name, value in os.environ.items() if name not in ("SPARK_HOME", "VIRTUAL_ENV")}
        of_side |= {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(scratch)}
    return {**of_side, "PYTHONPATH": str(REPOSITORY), "PYSPARK_SUBMIT_ARGS": f"{submit} pyspark-shell"}


def run_step(bench: Bench, name: str, expected: checks.Reference) -> dict[str, Any]:
    """Run the whole step on a run, and check where its moments come from and how many components there are."""
    step = pipeline.pca(bench, name)
    summary = step["summary"]
    moments = summary["moments"]
    check_moments(name, stored=moments["stored"], computed=moments["computed"])
    if (summary["images"], summary["k"]) != (len(expected.rows), expected.k):
        raise SystemExit(f"the whole step, {name}: {summary['images']} images and {summary['k']} components")
    return step


def shown(session: dict[str, Any]) -> str:
    """Return a session in a line."""
    laps = ", ".join(f"{lap['seconds']:.2f}" for lap in session["laps"])
    worst = max(lap["difference"]["score"] for lap in session["laps"])
    return (
        f"start {session['start_seconds']:.1f} s, laps {laps} s, {session['peak_memory_mib']} MiB, "
        f"scores differ by {worst:.0e}"
    )


def summarize(side: Side, sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a side's sessions and their medians: of the start, of each lap, and of its stages in the second lap."""
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
    """Return the medians of the whole step: in all, and of the job's own stages."""
    stages = [step["summary"]["seconds"] for step in steps]
    return {
        "seconds": median(step["seconds"] for step in steps),
        "peak_memory_mib": median(step["peak_memory_mib"] for step in steps),
        "stages": {name: median(each[name] for each in stages) for name in stages[0]},
        "laps_seconds": [step["seconds"] for step in steps],
    }


def lines(result: dict[str, Any]) -> list[str]:
    """Return a row a side, with how many times faster ours is, warm against warm; the whole step; and the goals."""
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
        title = f"the whole step, {name}: start, model, CSV, certificate too"
        cold, memory = f"{step['seconds']:.2f}", f"{step['peak_memory_mib']:.0f}"
        rows.append([title, "", cold, "", "", memory, "", *([""] * len(ours))])
    note = (
        f"{result['images']:,} x {result['dimensions']} features, {result['k']} components; median of "
        f"{result['sessions']} session(s) of {LAPS} laps, and as many of the whole step, each a process. Scores differ "
        "from the reference's by so much of the largest: those in float32, and of the solver that scikit-learn's auto "
        "chooses, are not exact. Last: how many times as fast ours is, warm against warm."
    )
    goals = [
        f"- {goal['side']}, {goal['goal']}: {goal['times']:.2f} times as fast as {goal['rival']} "
        f"(goal {goal['goal_times']:.2f}): {'reached' if goal['reached'] else 'MISSED'}"
        for goal in result["goals"]
    ]
    return [*markdown(header, rows), "", note, "", *goals, *_beside_the_goals(sides)]


def _beside_the_goals(sides: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return how ours compares with exact sides that are not as they come."""
    shown = []
    for other in sides.values():
        for ours in (sides[key] for key in (RAW.key, STORED.key) if key in sides):
            if other["exact"] and not other["stock"]:
                times = other["warm_seconds"] / ours["warm_seconds"]
                shown.append(f"- beside the goals: {ours['name']}: {times:.2f} times as fast as {other['name']}")
    return shown
