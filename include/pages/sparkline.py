"""A small trend as inline SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, MARGIN = 96, 28, 3
"""Size of the picture and its margin, in its own units."""


@dataclass(frozen=True)
class Sparkline:
    """The trend of a figure.

    Attributes
    ----------
    points : str
        The line, as the attribute ``points`` of ``polyline``.
    last : tuple of float
        Where it ends.
    text : str
        The same for people who do not see the picture.
    """

    points: str
    last: tuple[float, float]
    text: str


def draw(values: Sequence[float], texts: Sequence[str]) -> Sparkline | None:
    """Return the trend of a figure, the oldest value first; None with fewer than two values.

    Parameters
    ----------
    values : sequence of float
    texts : sequence of str
        The values as people read them.
    """
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    across, up = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    points = [
        (
            round(MARGIN + across * number / (len(values) - 1), 1),
            round(HEIGHT - MARGIN - up * ((value - low) / (high - low) if high > low else 0.5), 1),
        )
        for number, value in enumerate(values)
    ]
    lowest, highest = texts[values.index(low)], texts[values.index(high)]
    text = f"{len(values)} runs: from {texts[0]} to {texts[-1]}, lowest {lowest}, highest {highest}"
    return Sparkline(" ".join(f"{x},{y}" for x, y in points), points[-1], text)
