"""The time limit before a step's command: ``timeout OPTIONS DURATION COMMAND``. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

VALUE_OPTIONS = ("-k", "-s", "--kill-after", "--signal")
"""Options of timeout(1) whose value is the next word."""


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the time limit of a command (empty if it has none), and the command itself."""
    if not argv or argv[0].rpartition("/")[2] != "timeout":
        return [], list(argv)
    position = 1
    while position < len(argv) and argv[position].startswith("-"):
        position += 2 if argv[position] in VALUE_OPTIONS else 1
    return list(argv[: position + 1]), list(argv[position + 1 :])


def duration(argv: Sequence[str]) -> str:
    """Return the duration of the time limit of a command, as written; empty if it has none."""
    limit, _ = split(argv)
    return limit[-1] if limit else ""


def shorten(limit: Sequence[str], seconds: float) -> list[str]:
    """Return a time limit whose duration is ``seconds``; its ``--kill-after``, if any, is ``seconds`` too."""
    if not limit:
        return []
    words = list(limit)
    for position, word in enumerate(words[:-1]):
        if word in ("-k", "--kill-after"):
            words[position + 1] = f"{seconds:g}s"
        elif word.startswith(("--kill-after=", "-k")):
            words[position] = f"--kill-after={seconds:g}s"
    return [*words[:-1], f"{seconds:g}s"]
