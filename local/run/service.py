"""The commands of ``make up`` and ``make down``: Airflow with its scheduler and UI, and the local EMR endpoint."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from local.airflow.home import RunError
from local.airflow.supervisor import ServiceError
from local.emr.process import EndpointProcessError
from local.environment import LOCAL
from local.run.console import PlainTextConsole
from local.run.down import down
from local.run.lake import LakeError
from local.run.locations import add_locations, resolve_locations
from local.run.serve import serve
from local.run.up import up
from local.s3.process import StoreError

DEFAULT_PORT = 8080


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m local.run.service", description="Airflow with its UI on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "up": "start it in the background, and return when a run can be triggered",
        "down": "stop it; the lake, Airflow's database and the logs are kept",
        "serve": "run it in this process; up starts this in the background",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--state", type=Path, default=LOCAL, help="folder of Airflow's database, logs and models (default: .local)"
        )
        if name != "down":
            add_locations(command)
            command.add_argument("--port", type=int, default=DEFAULT_PORT, help="port of the UI (default: 8080)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    options = read_options(argv)
    logging.basicConfig(level=logging.WARNING)
    console = PlainTextConsole()
    commands = {"up": up, "down": down, "serve": serve}
    try:
        if options.command != "down":
            resolve_locations(options)
        return commands[options.command](options, console)
    except (RunError, ServiceError, LakeError, StoreError, EndpointProcessError) as error:
        prefix = "" if options.command == "serve" else f"make {options.command}: "
        console.print(f"{prefix}{error}")
        return 2
    except KeyboardInterrupt:
        if options.command == "serve":
            return 0
        console.print(f"make {options.command}: interrupted; everything that it started has stopped")
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
