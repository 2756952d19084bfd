"""The program of each side of the comparison: it starts once, then repeats the same work in laps.

Each lap reads the features, fits, projects, and writes the scores. The rivals' environments import this module, so it
must not import the project's packages.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Arguments:
    """The arguments of every side.

    Attributes
    ----------
    run : Path
        Folder of a run; its features are in ``segments/*/features.parquet``.
    output : Path
        Folder for the scores of the laps; it exists and is empty.
    k : int
        Number of components to keep.
    variant : str
        Algorithm or input of the side.
    laps : int
        Number of laps.
    """

    run: Path
    output: Path
    k: int
    variant: str
    laps: int

    @property
    def features(self) -> Path:
        """Folder whose subfolders have the features' Parquet files, with the columns path, label and features."""
        return self.run / "segments"


class Stages:
    """Seconds of the stages of a lap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 3)


@dataclass(frozen=True)
class Outcome:
    """The result of a lap.

    Attributes
    ----------
    ratio : sequence of float
        Explained variance ratio of the ``k`` components.
    scores : Path
        Folder of Parquet files with the columns path, label and components; it is moved before the next lap.
    seconds : dict of str to float
        Duration of each stage.
    """

    ratio: Sequence[float]
    scores: Path
    seconds: dict[str, float] = field(default_factory=dict)


Lap = Callable[[], Outcome]
Session = Callable[[Arguments], AbstractContextManager[Lap]]
"""A context manager that starts a side, including its imports."""


def run(description: str | None, session: Session) -> int:
    """Run a side's program, and print its figures as one line of JSON.

    The figures are ``start_seconds``, and ``seconds``, ``stages`` and ``ratio`` of each of the ``laps``. The scores of
    the first lap are in the subfolder ``lap-1`` of the output folder.
    """
    args = parse(description)
    begin = time.perf_counter()
    laps = []
    with session(args) as lap:
        started = time.perf_counter() - begin
        for number in range(1, args.laps + 1):
            begin = time.perf_counter()
            outcome = lap()
            seconds = time.perf_counter() - begin
            outcome.scores.rename(args.output / f"lap-{number}")
            laps.append({"seconds": round(seconds, 3), "stages": outcome.seconds, "ratio": list(outcome.ratio)})
    print(json.dumps({"start_seconds": round(started, 3), "laps": laps}))
    return 0


def parse(description: str | None) -> Arguments:
    """Return the arguments of a side's command line."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a run with segments/*/features.parquet")
    parser.add_argument("--output", type=Path, required=True, help="empty folder for the scores")
    parser.add_argument("--k", type=int, required=True, help="components to keep")
    parser.add_argument("--variant", default="", help="algorithm or input of the side")
    parser.add_argument("--laps", type=int, required=True, help="number of laps")
    args = parser.parse_args()
    return Arguments(args.run.resolve(), args.output.resolve(), args.k, args.variant, args.laps)
