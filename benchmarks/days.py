"""What a day costs: ten days of a growing folder of photos, each beside a full run of the same photos.

A day is what the DAG does on it: the changes are found in this process, as in Airflow's, and the two steps run as the
local EMR endpoint submits them. A day with nothing to do has no steps, and no cluster. The state of a day is that of
the day before with its changes; it must equal the full run of the day (:mod:`benchmarks.day_checks`).

The second table is a day that adds 1 % to many photos: the time of its steps as a share of those of a full run.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import day_checks, photos, pipeline
from benchmarks.inputs import PATTERN
from benchmarks.rates import median
from benchmarks.table import Bench, markdown
from local.images.loading import find_images
from spark_jobs import fingerprint
from spark_jobs.args import (
    CHANGES_FILE,
    LISTING_FILE,
    LIVE_SEGMENTS_FILE,
    PCA_MODEL_FILE,
    FeaturizeArgs,
)
from spark_jobs.images import changes
from spark_jobs.model import mobilenet
from spark_jobs.records import Changes

DESCRIPTION = "ten days of additions, changes and deletions, and a day with 1 % new photos, beside full runs"

DAYS = 10
SEED = 20261127
FIRST_SHARE = 0.5
"""Share of the photos that are there on the first day; the others come in equal parts on the following days."""

CHANGED_SHARE = 0.02
GONE_SHARE = 0.01
"""Shares of a day's photos that are replaced by another photo, and that are deleted; one photo at least."""

SIZE = 20_000
NEW_SHARE = 0.01
GOAL_SHARE = 0.1
LAPS = 3


@dataclass(frozen=True)
class Day:
    """What happens to the folder of photos on a day.

    Attributes
    ----------
    added, deleted : tuple of str
        Names of photos, ``<label>/<file>``.
    changed : mapping of str to str
        Names of photos, and the names of the photos that replace their content.
    """

    added: tuple[str, ...] = ()
    changed: Mapping[str, str] = field(default_factory=dict)
    deleted: tuple[str, ...] = ()


class State(NamedTuple):
    """The state of a day: the run that computed it, what the next day compares with, and its components."""

    run: Path
    published: changes.Published
    k: int


class Outcome(NamedTuple):
    """The changes of a day, the seconds of its parts, its state, and the summary of featurize, if it ran."""

    found: Changes
    seconds: dict[str, float]
    state: State
    featurized: dict[str, Any] | None


def measure(bench: Bench, days: int = DAYS) -> dict[str, Any]:
    """Run the days, then the laps of the day with 1 % new photos.

    Parameters
    ----------
    bench : Bench
        Its largest size is the number of photos of the second part, its laps are those of the second part.
    days : int
        Number of days of the first part; 3 or more.

    Raises
    ------
    SystemExit
        If a day computes more or fewer images than have changed, or its state differs from that of the full run.
    """
    return {
        "seed": SEED,
        "tolerance": day_checks.TOLERANCE,
        "days": measure_days(bench, days),
        "addition": measure_addition(bench, max(bench.sizes, default=SIZE), bench.laps or LAPS),
    }


def measure_days(bench: Bench, count: int) -> list[dict[str, Any]]:
    """Run the days one after another, each followed by its full run, and return a row of the table for each."""
    sources = find_images(bench.images, PATTERN)
    folder, segments = bench.work / "days", bench.work / "days-segments"
    state: State | None = None
    rows = []
    for number, day in enumerate(plan(list(sources), count), start=1):
        apply(day, sources, folder)
        outcome = run_day(bench, folder, f"day-{number:02}", segments, state)
        check_work(outcome, day)
        full = run_full(bench, folder, f"full-{number:02}")
        row = {
            "day": number,
            "images": outcome.found["listed"],
            **{name: outcome.found[name] for name in ("new", "changed", "gone")},
            "featurized": outcome.featurized["featurized"] if outcome.featurized else 0,
            "rewritten": outcome.featurized["rewritten"] if outcome.featurized else 0,
            "segments": len(outcome.state.published.segments),
            "seconds": outcome.seconds,
            "full_seconds": full["seconds"],
            "cluster": outcome.featurized is not None,
            "k": outcome.state.k,
            "difference": compare(outcome.state.run, full["run"], f"day {number}"),
        }
        rows.append(row)
        state = outcome.state
        shutil.rmtree(full["run"])
        print(f"day {number}: {day_text(row)}", flush=True)
    return rows


def measure_addition(bench: Bench, count: int, laps: int) -> dict[str, Any]:
    """Measure a day that adds 1 % to a folder of photos; every lap begins with the same state."""
    folder, segments = bench.work / "addition", bench.work / "addition-segments"
    photos.repeat(bench.images, folder, count)
    base = run_day(bench, folder, "base", segments, None).state
    added, new = bench.work / "added", max(1, round(NEW_SHARE * count))
    photos.repeat(bench.images, added, new)
    for name, photo in find_images(added, PATTERN).items():
        photo.rename((folder / name).with_stem(f"{photo.stem}-new"))
    photos.read_once(folder)
    differences = []
    measured: dict[str, list[dict[str, float]]] = {"day": [], "full": []}
    for lap in range(1, laps + 1):
        outcome = run_day(bench, folder, f"addition-{lap}", segments, base)
        if (outcome.found["new"], outcome.found["work"]) != (new, new):
            raise SystemExit(f"{outcome.found['new']} new images, {outcome.found['work']} to compute: expected {new}")
        full = run_full(bench, folder, f"addition-full-{lap}")
        differences.append(compare(outcome.state.run, full["run"], f"{new} new images, lap {lap}"))
        measured["day"].append(outcome.seconds)
        measured["full"].append(full["seconds"])
        shutil.rmtree(full["run"])
        share = steps_seconds(outcome.seconds) / steps_seconds(full["seconds"])
        print(f"{new} new images in {count}, lap {lap}: {share:.1%} of the full run's steps", flush=True)
    medians = {side: {name: median(lap[name] for lap in each) for name in each[0]} for side, each in measured.items()}
    steps = {side: median(map(steps_seconds, each)) for side, each in measured.items()}
    return {
        "images": count + new,
        "new": new,
        "k": outcome.state.k,
        "difference": max(differences),
        "laps": measured,
        "median": medians,
        "steps_seconds": steps,
        "share": round(steps["day"] / steps["full"], 4),
        "goal_share": GOAL_SHARE,
    }


def plan(names: Sequence[str], count: int) -> list[Day]:
    """Return the days: additions on each, then changes and deletions too.

    One day in the middle is empty; the day before it only adds. The content of a photo that is replaced becomes that of
    another photo. A deleted photo does not return.

    Parameters
    ----------
    names : sequence of str
        All photos.
    count : int
        Number of days.

    Raises
    ------
    SystemExit
        If there are too few photos or days.
    """
    if count < 3 or len(names) < 8 * count:
        raise SystemExit(f"{len(names)} photos on {count} days: expected 3 days, and 8 photos for each, or more")
    source = random.Random(SEED)
    shuffled = sorted(names)
    source.shuffle(shuffled)
    first = round(FIRST_SHARE * len(shuffled))
    present, waiting = shuffled[:first], shuffled[first:]
    empty = count // 2 + 1
    days = [Day(tuple(present))]
    for number in range(2, count + 1):
        if number == empty:
            days.append(Day())
            continue
        step = number - 2 - (number > empty)
        added = waiting[len(waiting) * step // (count - 2) : len(waiting) * (step + 1) // (count - 2)]
        changed, gone = (_count(share, present) * (number != empty - 1) for share in (CHANGED_SHARE, GONE_SHARE))
        chosen = source.sample(present, changed + gone)
        replaced = {name: source.choice([other for other in shuffled if other != name]) for name in chosen[:changed]}
        days.append(Day(tuple(added), replaced, tuple(chosen[changed:])))
        present = [*(name for name in present if name not in chosen[changed:]), *added]
    return days


def _count(share: float, present: Sequence[str]) -> int:
    return max(1, round(share * len(present)))


def apply(day: Day, sources: Mapping[str, Path], folder: Path) -> None:
    """Write, replace and delete photos in a folder; what is written has a new modification time."""
    for name, source in [*((name, name) for name in day.added), *day.changed.items()]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sources[source], folder / name)
    for name in day.deleted:
        (folder / name).unlink()


def run_day(bench: Bench, images: Path, name: str, segments: Path, before: State | None) -> Outcome:
    """Find the changes since a state; if there are changes, run the steps.

    Parameters
    ----------
    bench : Bench
    images : Path
        Folder of photos.
    name : str
        Name of the run.
    segments : Path
        Folder of the segments of all days.
    before : State or None
        The state of the day before.
    """
    run = pipeline.run_folder(bench, name)
    options: dict[str, Any] = {
        "changes": pipeline.uri(run / CHANGES_FILE),
        "segments": pipeline.uri(segments),
    }
    args = FeaturizeArgs(images=pipeline.uri(images), run=pipeline.uri(run), model=pipeline.uri(bench.model), **options)
    features_of = fingerprint.planned(mobilenet.read(args.model).digest, args)
    begin = time.perf_counter()
    found = changes.find(
        changes.Folder(args.images, args.pattern), args.run, features_of, before.published if before else None
    )
    seconds = {"find": round(time.perf_counter() - begin, 3), "featurize": 0.0, "pca": 0.0}
    if before is not None and found["everything"]:
        raise SystemExit(f"{name} computes all images, since {found['everything']}: expected the changed ones only")
    if before is not None and not (found["new"] or found["changed"] or found["gone"]):
        return Outcome(found, seconds, before, None)
    featurized = pipeline.featurize(bench, images, name, options=options)
    previous = {"previous_model": pipeline.uri(before.run / PCA_MODEL_FILE)} if before else {}
    reduced = pipeline.pca(bench, name, options=previous)
    seconds |= {"featurize": featurized["seconds"], "pca": reduced["seconds"]}
    live = json.loads((run / LIVE_SEGMENTS_FILE).read_text())["segments"]
    summary = featurized["summary"]
    published = changes.Published(pipeline.uri(run / LISTING_FILE), summary["fingerprint"], live, run=pipeline.uri(run))
    return Outcome(found, seconds, State(run, published, reduced["summary"]["k"]), summary)


def run_full(bench: Bench, images: Path, name: str) -> dict[str, Any]:
    """Run both steps from scratch; the segments are in the run's folder."""
    featurized = pipeline.featurize(bench, images, name)
    reduced = pipeline.pca(bench, name)
    seconds = {"featurize": featurized["seconds"], "pca": reduced["seconds"]}
    return {"run": pipeline.run_folder(bench, name), "seconds": seconds}


def check_work(outcome: Outcome, day: Day) -> None:
    """Compare what was found and computed with what happened on a day.

    Raises
    ------
    SystemExit
        If they differ.
    """
    found, expected = outcome.found, (len(day.added), len(day.changed), len(day.deleted))
    if (found["new"], found["changed"], found["gone"]) != expected:
        raise SystemExit(
            f"{found['new']} new, {found['changed']} changed and {found['gone']} gone images were found: expected "
            f"{expected[0]}, {expected[1]} and {expected[2]}"
        )
    computed = outcome.featurized["featurized"] if outcome.featurized else 0
    if computed != expected[0] + expected[1]:
        raise SystemExit(f"{computed} images were computed: expected {expected[0] + expected[1]}")


def compare(run: Path, full: Path, what: str) -> float:
    """Return the largest difference of a score (:func:`benchmarks.day_checks.check`).

    Raises
    ------
    SystemExit
        If a run differs from the full run.
    """
    try:
        return day_checks.check(run, full)
    except ValueError as error:
        raise SystemExit(f"{what}: {error}") from error


def steps_seconds(seconds: Mapping[str, float]) -> float:
    """Return the seconds of the two steps."""
    return seconds["featurize"] + seconds["pca"]


def day_text(row: Mapping[str, Any]) -> str:
    """Return a one-line summary of a day."""
    return (
        f"{row['images']} images, {row['new']} new, {row['changed']} changed, {row['gone']} gone: "
        f"{sum(row['seconds'].values()):.1f} s, full run {sum(row['full_seconds'].values()):.1f} s, k = {row['k']}"
    )


def lines(result: dict[str, Any]) -> list[str]:
    """Return the table of the days, and that of the day with 1 % new photos."""
    header = ["day", "images", "new", "changed", "gone", "featurized", "rewritten segments", "s", "s full run"]
    names = ("day", "images", "new", "changed", "gone", "featurized", "rewritten")
    rows = [
        [
            *(str(row[name]) for name in names),
            *(_seconds(row[name].values()) for name in ("seconds", "full_seconds")),
            "one" if row["cluster"] else "none",
            str(row["k"]),
        ]
        for row in result["days"]
    ]
    addition = result["addition"]
    worst = max(row["difference"] for row in [*result["days"], addition])
    note = (
        "The seconds of a day are those of finding the changes and of both steps. After each day, features are bitwise "
        f"those of the full run, and scores and CSV differ by {worst:.0e} of a component's largest score at most."
    )
    sides = addition["median"]
    times = [
        [title, *(f"{side[name]:.1f}" if name in side else "" for side in sides.values())]
        for title, name in (("finding the changes: s", "find"), ("featurize: s", "featurize"), ("pca: s", "pca"))
    ]
    steps = addition["steps_seconds"]
    reached = "reached" if addition["share"] < addition["goal_share"] else "MISSED"
    shares = [f"{addition['share']:.1%} (goal: under {addition['goal_share']:.0%}, {reached})", "100 %"]
    head = f"{addition['new']:,} new of {addition['images']:,} images, median of {len(addition['laps']['day'])} lap(s)"
    addition_rows = [*times, ["both steps: s", *(f"{each:.1f}" for each in steps.values())], ["share", *shares]]
    return [
        *markdown([*header, "cluster", "k"], rows),
        "",
        note,
        "",
        *markdown([head, "the day", "full run"], addition_rows),
    ]


def _seconds(values: Iterable[float]) -> str:
    return f"{sum(values):.1f}"
