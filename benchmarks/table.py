"""The interface of the benchmark tables, and their input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Bench:
    """The input of every table.

    Attributes
    ----------
    images : Path
        Folder of <label>/*.jpg.
    count : int
        Number of photos in it.
    model : Path
        Folder of the exported LiteRT model.
    weights : Path
        Keras file of the same weights.
    work : Path
        Folder for everything that a table writes; it is deleted at the end. Its subfolder ``code`` has the jobs' code.
    master : str
        Spark master.
    laps : int or None
        Number of laps of each side; None for the table's default.
    sizes : tuple of int
        Numbers of photos to measure; empty for the table's default.
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
    """A module that measures a table; it has these three names at its top level."""

    DESCRIPTION: str
    """One line for the list of tables."""

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Measure, and return JSON-serializable figures.

        Raises
        ------
        SystemExit
            If a side fails, or if the results of the sides differ.
        """

    def lines(self, result: dict[str, Any]) -> list[str]:
        """Return a result as lines of Markdown."""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table. The first column is left-aligned, the others are right-aligned.

    Raises
    ------
    ValueError
        If a row and the header have different numbers of cells.
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
