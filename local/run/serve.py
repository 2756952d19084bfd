"""The process that ``make up`` starts in the background."""

from __future__ import annotations

import argparse

from local.airflow.descendants import stop_descendants_at_exit
from local.airflow.home import state_lock
from local.airflow.supervisor import Service
from local.run.console import PlainTextConsole
from local.run.display import Display
from local.run.preparation import prepared
from local.run.record import recorded, write_record
from local.run.up import READY
from spark_jobs.args import ALL_FORMATS


def serve(options: argparse.Namespace, console: PlainTextConsole) -> int:
    """Prepare the lake, start Airflow and the EMR endpoint, and keep them running until a signal stops this process."""
    state = options.state
    with (
        state_lock(state),
        recorded(state, f"http://127.0.0.1:{options.port}"),
        stop_descendants_at_exit(),
        Display(console) as display,
        prepared(
            state,
            lake=options.lake,
            store=options.store,
            images=options.images,
            pattern=ALL_FORMATS,  # each run chooses among them by its own image_pattern
            include_hidden=False,
            log=state / "logs" / "prepare.log",
            report=display.print_line,
        ) as ready,
        Service(state, options.port, ready.environment, display.print_line) as service,
    ):
        service.start()
        write_record(state, service.url)
        display.print_line("everything is up")
        console.print(READY)
        service.watch()
    return 0
