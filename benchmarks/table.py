"""What a table of the benchmark is: a module that measures, and shows what it has measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Bench:
    """What every table works with.

    Attributes
    ----------
    images : Path
        Folder of <label>/*.jpg.
    count : int
        Photos in it.
    model : Path
        Folder of the exported LiteRT model.
    weights : Path
        Keras' file of the same weights.
    work : Path
        Folder for everything that a table writes; it is deleted at the end. The jobs' code is in ``code/`` below it.
    master : str
        Spark master.
    laps : int or None
        Laps of each side; None for the table's own number.
    sizes : tuple of int
        Numbers of photos to measure at; empty for the table's own.
    """

    images: Path
    count: int
    model: Path
    weights: Path
    work: Path
    master: str
    laps: int | None = None
    sizes: tuple[int, ...] = ()


class Table(Protocol):
    """The interface of a module that makes a table: these three names at its top level."""

    DESCRIPTION: str
    """One line for the list of tables."""

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Take the measurements and return figures that JSON can hold.

        Raises
        ------
        SystemExit
            When results disagree, since a fast wrong answer is no result, or when a side fails.
        """

    def lines(self, result: dict[str, Any]) -> list[str]:
        """Return the table of a result as lines of text, in Markdown, so that it can be quoted."""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns are aligned: the first to the left, the others, figures, to the right.

    Raises
    ------
    ValueError
        When a row has another number of cells than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}: {row}")
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        aligned = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(aligned)} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(header), f"| {' | '.join(rule)} |", *(line(row) for row in rows)]
