"""Write the tables of costs into docs/cost.md, from the code that plans clusters and forecasts costs.

With ``--check``, report whether they are up to date. Everything is deterministic: the simulated year has a seed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from include.cluster.planning import SizePlan, Work, plan_size
from include.cluster.rates import ASSUMED, RECENT_STATES, Rates, learn_rates
from include.cost.figures import plan_figures
from include.cost.forecast import forecast_cost
from include.cost.prices import TABLE, Prices, read_table
from include.records import ClusterFigures
from include.settings.parameters import RunParams

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "cost.md"
BEGIN = "<!-- written by `make docs`: begin -->"
END = "<!-- written by `make docs`: end -->"

EMR_SHARE = 0.25
"""Assumed EMR surcharge, as a share of EC2's on-demand price: our price table has none (decision 0020)."""

GP3_USD = 0.10
"""Assumed price of gp3, in USD per GiB and month: our price table has none."""

PLANNED = replace(RunParams(), core_instance_types=("c7g.2xlarge",))
"""The default parameters, but with the one default type of workers whose price is in our table and which is the
dearer of the two that are."""

FIXED = replace(PLANNED, min_worker_nodes=4, max_worker_nodes=4)
"""Two core and two task nodes every day: the default before clusters were planned."""

OLD = (1_000_000, 10_000_000)
NEW = (0, 100, 10_000, 1_000_000)
PHOTOS = {"small (5 kB)": 5_000, "camera (3.5 MB)": 3_500_000}
"""Bytes of a photo: the fruits of 100 x 100 pixels, and a JPEG of 12 megapixels (decision 0014)."""

SEED = 20261127
DAYS = 365
BUSY_PHOTOS = (20_000, 100_000)
BIG_DAY, BIG_DAY_PHOTOS = 250, 1_000_000
TRUE_IMAGES_PER_SECOND = 60.0
"""Speed of the simulated machines, per vCPU: slower than assumed, so that the plan has something to learn."""

START_AND_STOP_MINUTES = (8.0, 12.0, 20.0)
"""Least, most frequent and greatest time to start and stop a simulated cluster."""


def example_prices() -> Prices:
    """Return our price table with assumed prices in place of the unknown ones."""
    record = json.loads(TABLE.read_text(encoding="utf-8"))
    for values in record["instances"].values():
        values.setdefault("emr_usd_per_hour", round(values["on_demand_usd_per_hour"] * EMR_SHARE, 4))
    record["ebs_usd_per_gib_month"].setdefault("gp3", GP3_USD)
    return read_table(json.dumps(record), "example prices")


@dataclass(frozen=True)
class Outcome:
    """A run: its cluster, and what it has cost at most."""

    plan: SizePlan
    figures: ClusterFigures

    @property
    def eur(self) -> float:
        """Cost in euros, spot nodes at the on-demand price."""
        eur = self.figures["eur"]
        assert eur is not None
        assert eur["high"] is not None, "a price is unknown"
        return eur["high"]


def run(prices: Prices, params: RunParams, plan: SizePlan) -> Outcome:
    """Return what a planned cluster costs."""
    return Outcome(plan, plan_figures(plan, forecast_cost(prices, params, plan)))


def describe_day(prices: Prices, old: int, new: int, bytes_: int) -> list[str]:
    """Return the cells of a day in the table of single days."""
    cells = [f"{old:,}", f"{new:,}"]
    if not new:
        return [*cells, "none", "0", "0", "0.00", "—", "0", "0.00", "—"]
    work = Work(new, new * bytes_, old + new)
    planned, fixed = (run(prices, params, plan_size(work, params, ASSUMED)) for params in (PLANNED, FIXED))
    return [
        *cells,
        describe_size(planned.plan),
        f"{planned.plan.seconds / 60:.0f}",
        f"{planned.plan.rates.start_and_stop_seconds / 60:.0f}",
        f"{planned.eur:.2f}",
        f"{new / planned.eur:,.0f}",
        f"{fixed.plan.seconds / 60:.0f}",
        f"{fixed.eur:.2f}",
        f"{new / fixed.eur:,.0f}",
    ]


def describe_size(plan: SizePlan) -> str:
    """Return the nodes of a cluster."""
    size = plan.size
    spot = f" + {size.task_nodes} spot" if size.task_nodes else ""
    return "primary node alone" if size.is_single_node else f"primary + {size.core_nodes} core{spot}"


def draw_year(seed: int = SEED) -> list[int]:
    """Return the number of new photos on each day.

    Most days have none or a few hundred, some have tens of thousands, and one has a million.
    """
    source = random.Random(seed)
    days = []
    for day in range(DAYS):
        kind = source.random()
        if kind < 0.4:
            days.append(0)
        elif kind < 0.93:
            days.append(1 + int(source.lognormvariate(6.0, 1.2)))
        else:
            days.append(source.randrange(*BUSY_PHOTOS))
        if day == BIG_DAY:
            days[-1] = BIG_DAY_PHOTOS
    return days


@dataclass
class Year:
    """The sums of a simulated year."""

    runs: int = 0
    photos: int = 0
    hours: float = 0.0
    missed: int = 0
    eur: float = 0.0
    start_and_stop_eur: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Add a run."""
        share = outcome.figures["start_and_stop_eur"]
        assert share is not None
        self.runs += 1
        self.photos += outcome.plan.work.images
        self.hours += outcome.plan.seconds / 3600
        self.missed += not outcome.plan.meets_deadline
        self.eur += outcome.eur
        self.start_and_stop_eur += share["high"] or 0.0


def simulate_year(prices: Prices, params: RunParams, bytes_: int, *, learns: bool = True) -> Year:
    """Return the cost of a year on top of a million photos.

    The plan of a day knows the outcomes of the last runs, as the DAG does. The simulated cluster then works at its own
    speed, and starts and stops in a time that is drawn for the day; on any cluster, the day is the same.

    Parameters
    ----------
    prices : Prices
    params : RunParams
        The limits of the clusters.
    bytes_ : int
        Size of a photo.
    learns : bool
        Whether plans learn from outcomes, or are made with the assumed rates all year.
    """
    source, year, listed = random.Random(SEED + 1), Year(), OLD[0]
    outcomes: list[ClusterFigures] = []
    for new in draw_year():
        low, mode, high = START_AND_STOP_MINUTES
        waiting = 60 * source.triangular(low, high, mode)
        listed += new
        if not new:
            continue
        plan = plan_size(Work(new, new * bytes_, listed), params, learn_rates(outcomes) if learns else ASSUMED)
        truth = Rates(TRUE_IMAGES_PER_SECOND, ASSUMED.pca_seconds_per_image, waiting, "simulated")
        outcome = run(prices, params, replace(plan, rates=truth))
        year.add(outcome)
        outcomes = [*outcomes, outcome.figures][-RECENT_STATES:]
    return year


def describe_year(name: str, year: Year) -> list[str]:
    """Return the cells of a year in its table."""
    return [
        name,
        f"{year.runs}",
        f"{year.hours:.0f}",
        f"{year.missed}",
        f"{year.eur:.2f}",
        f"{year.start_and_stop_eur / year.eur:.0%}",
        f"{year.photos / year.eur:,.0f}",
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; numbers are aligned right."""
    right = [all(row[column][:1].isdecimal() or row[column] == "—" for row in rows) for column in range(len(head))]
    rule = ["---:" if is_right else "---" for is_right in right]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def fill(text: str) -> str:
    """Return a paragraph in lines of at most 120 characters."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def write_parts(prices: Prices) -> Iterator[str]:
    """Yield the parts of the text."""
    yield "### Prices of the example"
    yield fill(
        "The tables below need prices that our table does not have. They use **example prices**: EC2, S3 and the euro "
        f"of our table; an EMR surcharge of {EMR_SHARE:.0%} of EC2's price and {GP3_USD:.2f} USD per GiB and month of "
        "gp3, which are **assumptions, not AWS's prices for this region**. Spot nodes count with the on-demand price, "
        "so the amounts are upper limits. Workers are c7g.2xlarge only: the table has no price of c8g."
    )
    names = [PLANNED.master_instance_type, *PLANNED.core_instance_types]
    used = [(name, prices.instance(name)) for name in names]
    rows = [[name, f"{price.on_demand} (our table)", f"{price.emr} (assumed)"] for name, price in used]
    yield table(["type", "EC2, USD/h", "EMR, USD/h"], rows)
    yield "### A day"
    yield fill(
        "New photos on top of old ones, with the assumed rates. *Fixed* are the four worker nodes that every run had "
        "before clusters were planned (`min_worker_nodes` and `max_worker_nodes` of 4). A day without a change has no "
        "cluster; a day on which photos were only deleted costs as much as one with 100 new photos."
    )
    head = ["old photos", "new photos", "planned cluster", "min", "of it start and stop", "EUR", "photos per EUR"]
    head += ["fixed: min", "EUR", "photos per EUR"]
    for name, bytes_ in PHOTOS.items():
        yield f"Photos: {name}."
        yield table(head, [describe_day(prices, old, new, bytes_) for old in OLD for new in NEW])
    yield "### A year"
    yield fill(describe_simulation())
    head = ["clusters", "runs", "cluster hours", "deadlines missed", "EUR per year", "of it start and stop"]
    head += ["photos per EUR"]
    for name, bytes_ in PHOTOS.items():
        yield f"Photos: {name}."
        years = {
            "planned": simulate_year(prices, PLANNED, bytes_),
            "planned, never learning": simulate_year(prices, PLANNED, bytes_, learns=False),
            "fixed": simulate_year(prices, FIXED, bytes_),
        }
        yield table(head, [describe_year(kind, year) for kind, year in years.items()])


def describe_simulation() -> str:
    """Return what the simulated year consists of."""
    days = draw_year()
    low, mode, high = START_AND_STOP_MINUTES
    quiet = [new for new in days if 0 < new < BUSY_PHOTOS[0]]
    busy = sum(BUSY_PHOTOS[0] <= new < BIG_DAY_PHOTOS for new in days)
    return (
        f"A simulated year on top of {OLD[0]:,} photos (seed {SEED}): {days.count(0)} days without a new photo, "
        f"{len(quiet)} quiet days (median {statistics.median(quiet):.0f} photos), {busy} busy days "
        f"({BUSY_PHOTOS[0]:,} to {BUSY_PHOTOS[1]:,} photos) and one day with {BIG_DAY_PHOTOS:,}. The simulated "
        f"machines are slower than assumed ({TRUE_IMAGES_PER_SECOND:.0f} instead of "
        f"{ASSUMED.images_per_second_per_vcpu:.0f} images/s per vCPU); they start and stop in "
        f"{low:.0f} to {high:.0f} minutes, mostly {mode:.0f}. The plan "
        f"learns both from the outcomes of the last {RECENT_STATES} runs, or keeps the assumed rates. The deadline is "
        f"{PLANNED.deadline_minutes} minutes; a plan expects the median start, so a slow start can miss it."
    )


def render(document: str) -> str:
    """Return the document with new tables."""
    before, _, rest = document.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{TARGET} lacks the lines {BEGIN} and {END}: restore them")
    return f"{before}{BEGIN}\n" + "\n\n".join(write_parts(example_prices())) + f"\n{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the document is not up to date")
    options = parser.parse_args(argv)
    document = TARGET.read_text(encoding="utf-8")
    text = render(document)
    if not options.check:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if text == document:
        return 0
    sys.stderr.write("the tables of docs/cost.md are not up to date: run `make docs` and commit it\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
