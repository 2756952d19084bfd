"""The commands ``make settings`` and ``make mwaa``: ``python -m include.deployment settings|mwaa``."""

from __future__ import annotations

import argparse
import sys

from include.deployment import mwaa, stack

COMMANDS = {"settings": stack.main, "mwaa": mwaa.main}


def main(argv: list[str]) -> int:
    """Run the command that the first argument names; it parses the other arguments."""
    parser = argparse.ArgumentParser(prog="python -m include.deployment", description=__doc__)
    parser.add_argument("command", choices=sorted(COMMANDS))
    return COMMANDS[parser.parse_args(argv[:1]).command](argv[1:])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
