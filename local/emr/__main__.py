"""Command line of the local EMR endpoint: ``python -m local.emr --port 0 --state-dir DIR``."""

from __future__ import annotations

import argparse
import logging
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from local.emr.faults.faults import Faults
from local.emr.faults.scenario import ScenarioError
from local.emr.options import PAGE_SIZE, SHORT_JOB_JVM, Options, half_of_memory_mb
from local.emr.server import EndpointError, is_loopback, serve
from local.processes import guard

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text} is not greater than 0")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.emr",
        description="A local EMR endpoint: speaks the EMR API and really runs the steps, on this machine.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--port", type=int, required=True, help="port to listen on; 0 takes a free one")
    add("--state-dir", type=Path, required=True, help="directory of the clusters, logs and scratch files")
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--allow-remote", action="store_true", help="allow a --host that others can reach: they can run commands")
    add("--master", default="local[*]", help="Spark master that --master yarn becomes")
    add("--python", default=sys.executable, help="Python interpreter of the steps")
    add("--driver-memory-cap", type=int, default=half_of_memory_mb(), metavar="MIB", help="maximum memory of a driver")
    add("--jvm-options", default=SHORT_JOB_JVM, help="JVM options of drivers, separated by spaces")
    add("--faults", type=Path, help="JSON file with the faults to inject; read again when it changes")
    add("--clock-rate", type=_positive, default=1.0, help="timers run this many times faster")
    add("--boot-seconds", type=_not_negative, default=0.0, help="time that a cluster takes to start")
    add("--interrupt-grace", type=_not_negative, default=10.0, metavar="SECONDS", help="time before a step is killed")
    add("--page-size", type=_count, default=PAGE_SIZE, metavar="ITEMS", help="number of items in an answer of a list")
    add("--shuffle", type=int, metavar="SEED", help="shuffle the lists whose order EMR does not promise")
    add("--staleness", type=_not_negative, default=0.0, metavar="SECONDS", help="age of the described cluster states")
    add("--pass-env", action="append", default=[], metavar="NAME", help="environment variable to pass to steps")
    add("--parent", type=int, metavar="PID", help="stop when this process exits; it must have started the endpoint")
    add("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"), help="what to log")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the endpoint until SIGTERM or SIGINT; return its exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if not is_loopback(arguments.host) and not arguments.allow_remote:
        parser.error(
            f"--host {arguments.host} is reachable from other machines, and they could run commands: use "
            "a loopback address, or add --allow-remote"
        )
    logging.basicConfig(level=arguments.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    # Blocked before any thread starts; sigwait() receives them. A handler could interrupt code that holds a lock.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    if arguments.parent is not None and not guard.die_with(arguments.parent, signal.SIGTERM):
        parser.error(f"--parent {arguments.parent} is not the process that started this one")
    options = Options(
        state_dir=arguments.state_dir.absolute(),
        python=arguments.python,
        master=arguments.master,
        driver_memory_cap_mb=arguments.driver_memory_cap,
        jvm_options=arguments.jvm_options,
        clock_rate=arguments.clock_rate,
        boot_seconds=arguments.boot_seconds,
        interrupt_grace_seconds=arguments.interrupt_grace,
        pass_environment=tuple(arguments.pass_env),
        page_size=arguments.page_size,
        shuffle_seed=arguments.shuffle,
        staleness_seconds=arguments.staleness,
    )
    try:
        faults = Faults(arguments.faults, clock_rate=arguments.clock_rate)
        serve(
            options,
            faults,
            host=arguments.host,
            port=arguments.port,
            until=lambda: signal.sigwait(STOP_SIGNALS),
            ready=lambda url: print(f"local EMR endpoint ready at {url}", flush=True),
        )
    except (EndpointError, ScenarioError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
