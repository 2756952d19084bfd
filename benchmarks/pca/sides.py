"""The sides of the comparison, and the goals for ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Side:
    """One row of the table.

    :class:`benchmarks.rivals.comparison.Side` has other attributes; the two only share a name and an environment.

    Attributes
    ----------
    name : str
        Name in the table.
    module : str
        Module of this package that runs the side.
    variant : str
        Argument that selects the algorithm or the input of the module.
    run : str
        Name of the run that it reads.
    centred : bool
        Whether its scores are centred.
    exact : bool
        Whether it computes in float64 and without approximation, as ours does. Goals apply to exact sides only.
    stock : bool
        Whether it is the system without added libraries. Goals apply to such sides only.
    environment : str
        Name of its requirements file; empty for the project's environment.
    """

    name: str
    module: str
    variant: str
    run: str = "raw"
    centred: bool = False
    exact: bool = True
    stock: bool = True
    environment: str = ""

    @property
    def key(self) -> str:
        """Name of the side in results and folders."""
        return f"{self.module}-{self.variant}"


RAW = Side("ours, from raw features", "ours", "raw")
STORED = Side("ours, from stored moments", "ours", "stored", run="stored")
SPARK_ML = (
    Side("Spark ML, plain", "spark_ml", "plain"),
    Side("Spark ML, cached", "spark_ml", "cached"),
    Side("Spark ML, cached, OpenBLAS added", "spark_ml", "openblas", stock=False, environment="spark-openblas"),
)
SCIKIT_LEARN = tuple(
    Side(
        f"scikit-learn, {solver}, {dtype}",
        "scikit_learn",
        f"{solver}-{dtype}",
        centred=True,
        exact=dtype == "float64" and solver != "auto",
    )
    for solver in ("covariance_eigh", "full", "auto")
    for dtype in ("float64", "float32")
)
DASK_ML = Side("Dask-ML, full", "dask_ml", "full", centred=True, environment="dask-ml")
SIDES = (RAW, STORED, *SPARK_ML, *SCIKIT_LEARN, DASK_ML)


@dataclass(frozen=True)
class Goal:
    """A required speed of ours: its warm seconds times ``factor`` are at most those of the rival.

    Attributes
    ----------
    side : str
        Key of our side.
    rival : str
        Module of the rival. Its fastest exact side without added libraries is the reference.
    factor : float
        ``5`` for five times as fast, ``1 / 1.5`` for one and a half times as slow.
    text : str
        Name in the table.
    """

    side: str
    rival: str
    factor: float
    text: str


GOALS = (
    Goal(RAW.key, "spark_ml", 5.0, "at least 5 times as fast as Spark ML"),
    Goal(RAW.key, "scikit_learn", 1 / 1.5, "at most 1.5 times as long as scikit-learn"),
    Goal(STORED.key, "spark_ml", 8.0, "at least 8 times as fast as Spark ML"),
    Goal(STORED.key, "scikit_learn", 1.0, "no slower than scikit-learn"),
)


def judge(sides: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return whether each goal is reached, by the warm seconds. A goal whose sides were not measured is omitted."""
    judged = []
    for goal in GOALS:
        rivals = [side for side in sides.values() if side["module"] == goal.rival and side["exact"] and side["stock"]]
        if goal.side in sides and rivals:
            rival = min(rivals, key=lambda side: float(side["warm_seconds"]))
            times = rival["warm_seconds"] / sides[goal.side]["warm_seconds"]
            judged.append(
                {
                    "side": sides[goal.side]["name"],
                    "rival": rival["name"],
                    "goal": goal.text,
                    "times": round(times, 3),
                    "goal_times": round(goal.factor, 3),
                    "reached": times >= goal.factor,
                }
            )
    return judged
