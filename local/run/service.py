"""``make up`` and ``make down``: Airflow with its scheduler and UI on this machine, beside the local EMR endpoint."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from rich.console import Console

from include.settings.dag_ids import FEATURES_DAG
from include.settings.parameters import RunParams
from local.airflow.api import AirflowApi
from local.airflow.components import USER, read_password
from local.airflow.home import RunError, alone, migrate_database
from local.airflow.orphans import end_orphaned_runs
from local.airflow.supervisor import MARK, Service, ServiceError, check_port, family, fresh_log
from local.environment import LOCAL, PROJECT, local_environment
from local.run.display import Display
from local.run.lake import LakeError, fill_lake
from local.run.store import NOWHERE, local_store, locate_lake
from local.s3.process import StoreError

DEFAULT_PORT = 8080
STOP_SECONDS = 120.0
REMAINS_SECONDS = 20.0
LOOK_SECONDS = 0.2
READY = "ready"


@dataclass(frozen=True)
class Record:
    """Who runs the service: what ``make down`` needs to know."""

    pid: int
    created: float
    """When the process began, by the kernel: a process id alone may be somebody else's by now."""
    url: str
    children: dict[str, float] = field(default_factory=dict)
    """Process ids of everything under it to when they began, as of the last look."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return began(self.pid) == self.created

    def left(self) -> list[int]:
        """Return the processes that it had started and that still run."""
        return [int(pid) for pid, created in self.children.items() if began(int(pid)) == created]


def began(pid: int) -> float | None:
    """Return when a process began; None when there is none, or only its exit code is left."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def record_file(state: Path) -> Path:
    """Return the file of the record."""
    return state / "service.json"


def read_record(state: Path) -> Record | None:
    """Return the record of the service that runs, or that was killed; None when there is none."""
    try:
        return Record(**json.loads(record_file(state).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def write_record(state: Path, url: str) -> None:
    """Write the record of this process and of all under it."""
    me = psutil.Process()
    children = {}
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            children[str(child.pid)] = child.create_time()
    record = Record(me.pid, me.create_time(), url, children)
    temporary = record_file(state).with_suffix(".new")
    temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
    temporary.replace(record_file(state))


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m local.run.service", description="Airflow with its UI on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "up": "start it in the background, and return when a run can be triggered",
        "down": "end it; the lake, Airflow's database and the logs stay",
        "serve": "what runs in the background",
    }.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--state", type=Path, default=LOCAL, help="folder of Airflow's database, logs and models (default: .local)"
        )
        if name != "down":
            command.add_argument("--images", type=Path, help="folder of photos, as with make run")
            command.add_argument("--store", choices=("folder", "s3"), default="folder", help="as with make run")
            command.add_argument("--lake", help="folder or bucket of the lake, as with make run")
            command.add_argument("--port", type=int, default=DEFAULT_PORT, help="port of the UI (default: 8080)")
    return parser.parse_args(argv)


def up(options: argparse.Namespace, console: Console) -> int:
    """Start the service in the background; return the exit code."""
    state = options.state.expanduser().absolute()
    record = read_record(state)
    if record is not None and record.alive:
        raise ServiceError(f"it runs already, at {record.url}; end it with `make down`")
    if record is not None:
        console.print("the last service was killed; waiting for what it has left to end")
        end_remains(record, state)
        record_file(state).unlink(missing_ok=True)
    check_port(options.port)
    log = fresh_log(state / "logs" / "service.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "local.run.service", "serve", "--state", str(state)]
    command += ["--lake", locate_lake(options.lake, options.store), "--store", options.store]
    command += ["--port", str(options.port)]
    command += ["--images", str(options.images.expanduser().absolute())] if options.images else []
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,  # it outlives this command and its terminal
        )
    try:
        code = relay(process, log, console)
    except BaseException:  # Ctrl-C while it starts: nothing is left half-started
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    if code is None:
        console.print(welcome(state, options.port), markup=False, highlight=False, soft_wrap=True)
        return 0
    return code


def relay(process: subprocess.Popen[bytes], log: Path, console: Console) -> int | None:
    """Show what the service says until it is ready; return None then, or its exit code when it has ended."""
    with log.open(encoding="utf-8", errors="replace") as stream:
        while True:
            ended = process.poll()
            for line in stream:
                if line.strip() == READY:
                    return None
                console.print(line.rstrip("\n"), markup=False, highlight=False, soft_wrap=True)
            if ended is not None:
                return ended
            time.sleep(LOOK_SECONDS)


def welcome(state: Path, port: int) -> str:
    """Return what a person needs to know to begin."""
    passwords = state / "airflow" / "passwords.json"
    return "\n".join(
        [
            "",
            f"Airflow     http://127.0.0.1:{port}/dags/{FEATURES_DAG}",
            f"user        {USER}",
            f"password    {read_password(passwords)}  (kept in {passwords})",
            "a run       Trigger (top right), change what you like in the form, Trigger",
            f"reports     http://127.0.0.1:{port}/fruit-reports/, when a run has been published",
            f"logs        {state / 'logs'}",
            "every day   a run by itself at midnight, Europe/Paris, while this is up",
            "end it      make down",
        ]
    )


def serve(options: argparse.Namespace, console: Console) -> int:
    """Bring images and model into the lake, start everything, and keep it running until told to stop."""
    state, lake = options.state, options.lake
    log = state / "logs" / "prepare.log"

    def environment(endpoint_url: str, store_url: str | None = None) -> dict[str, str]:
        return local_environment(
            airflow_home=state / "airflow", endpoint_url=endpoint_url, lake=lake, store_url=store_url
        )

    with (
        alone(state / "run.lock"),
        recorded(state, f"http://127.0.0.1:{options.port}"),
        family(),
        Display(console) as display,
        local_store(options.store, state / "s3", environment(NOWHERE)) as store_url,
    ):
        nowhere = environment(NOWHERE, store_url)
        if store_url:
            display.line(f"local S3 store at {store_url}; its data: {state / 's3'}")
        fill_lake(nowhere, lake, options.images, RunParams.image_pattern, state, log, display.line)
        database = migrate_database(nowhere, log, display.line)
        end_orphaned_runs(nowhere, database, log, display.line)
        with Service(state, options.port, lambda url: environment(url, store_url), display.line) as service:
            service.start()
            write_record(state, service.url)
            display.line("everything is up")
            console.print(READY)
            service.watch()
    return 0


@contextlib.contextmanager
def recorded(state: Path, url: str) -> Iterator[None]:
    """Keep a record of this process while it runs."""
    write_record(state, url)
    try:
        yield
    finally:
        record_file(state).unlink(missing_ok=True)


def down(options: argparse.Namespace, console: Console) -> int:
    """End the service and all that it has started; return the exit code."""
    state = options.state.expanduser().absolute()
    record = read_record(state)
    if record is None:
        console.print("make down: nothing is running")
        return 0
    if not record.alive:
        console.print("make down: it was killed; ending what it has left")
    else:
        console.print(f"ending Airflow at {record.url} and all beside it")
        tell_active_runs(record, state, console)
        os.kill(record.pid, signal.SIGINT)
        if not wait_until(lambda: not record.alive, STOP_SECONDS):
            os.kill(record.pid, signal.SIGKILL)
            console.print(f"it did not end in {STOP_SECONDS:g} s and was killed; see {state / 'logs'}")
    end_remains(record, state)
    record_file(state).unlink(missing_ok=True)
    console.print("make down: everything has ended; the lake, Airflow's database and the logs are kept")
    return 0


def tell_active_runs(record: Record, state: Path, console: Console) -> None:
    """Say which runs are cut short: their clusters end with the endpoint."""
    api = AirflowApi(record.url, USER, read_password(state / "airflow" / "passwords.json"))
    try:
        active = api.active_runs(FEATURES_DAG)
    except OSError as error:  # it may still be starting, or hang: it is ended all the same
        console.print(f"(Airflow does not answer: {error})", markup=False, highlight=False)
        return
    for run_id in active:
        console.print(
            f"the run {run_id} is cut short: its cluster ends, and it fails at the next make up", markup=False
        )


def remains(record: Record, state: Path) -> list[int]:
    """Return what a service has left: what it wrote down, and what came after that and carries its mark."""
    found = set(record.left())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == str(state) and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return sorted(found)


def end_remains(record: Record, state: Path) -> None:
    """Wait for what a killed service has left to end, and kill what does not."""
    if wait_until(lambda: not remains(record, state), REMAINS_SECONDS):
        return
    for pid in remains(record, state):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            for member in (*process.children(recursive=True), process):
                member.kill()


def wait_until(is_so: Callable[[], bool], seconds: float) -> bool:
    """Wait for something; return whether it came about."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    options = read_options(argv)
    logging.basicConfig(level=logging.WARNING)
    console = Console()
    commands = {"up": up, "down": down, "serve": serve}
    try:
        return commands[options.command](options, console)
    except (RunError, ServiceError, LakeError, StoreError) as error:
        prefix = "" if options.command == "serve" else f"make {options.command}: "
        console.print(f"{prefix}{error}", markup=False, highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        if options.command == "serve":
            return 0
        console.print(f"make {options.command}: stopped; everything that it started has ended", markup=False)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
