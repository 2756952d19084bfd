"""Prints the history of a lake, or restores a state: ``make history``, ``make restore``."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from include.lake.commit import ConflictError, RestoreError, restore
from include.lake.layout import Lake, read_root
from include.lake.objects import LakePath
from include.lake.publication import show_published
from include.lake.state import DamagedLakeError
from include.reports.history import format_json, format_table, read_history


def main(argv: list[str] | None = None) -> int:
    """Print the history of a lake, or restore a state; the exit code is 1 if there is no such lake or state."""
    parser = argparse.ArgumentParser(
        prog="python -m include.reports", description="Print the successful runs of a lake, or restore a state."
    )
    parser.add_argument("--lake", help="folder, or s3://bucket; default: the lake of `make run`, .local/lake")
    parser.add_argument("--relative-to", default=".", help="folder to which a relative --lake refers")
    parser.add_argument("--restore", type=int, metavar="STATE", help="publish a kept state again, as a new state")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    options = parser.parse_args(argv)
    root = read_root(options.lake, options.relative_to)
    if not LakePath(root).exists():
        print(f"there is no lake at {root}: name one with LAKE=folder, or start a run with `make run`", file=sys.stderr)
        return 1
    if options.restore is not None:
        return _restore(Lake(root), options.restore)
    rows = read_history(Lake(root), None)
    if options.format == "json":
        print(format_json(rows))
    elif rows:
        print(format_table(rows))
    else:
        print(f"{root} has no successful run yet: start one with `make run`", file=sys.stderr)
        return 1
    return 0


def _restore(lake: Lake, state: int) -> int:
    try:
        current = restore(lake, state, datetime.now(UTC).isoformat(timespec="seconds"), None)
    except (RestoreError, ConflictError, DamagedLakeError) as error:
        print(error, file=sys.stderr)
        return 1
    show_published(lake, None)
    print(f"the state {state} is published again, as state {current['state']}: {current['images']} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
