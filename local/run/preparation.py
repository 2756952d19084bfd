"""What every local run needs before Airflow starts: the store, a lake with images and a model, Airflow's database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from local.airflow.home import migrate_database
from local.airflow.orphans import end_orphaned_runs
from local.environment import UNREACHABLE_URL, local_environment
from local.run.lake import fill_lake
from local.run.store import lake_lock, local_store


@dataclass(frozen=True)
class Prepared:
    """Everything that a run starts from.

    Attributes
    ----------
    environment : callable
        Returns the environment of Airflow and the endpoint, given the URL of the EMR endpoint.
    database : Path
        Airflow's SQLite file.
    """

    environment: Callable[[str], dict[str, str]]
    database: Path


@contextlib.contextmanager
def prepared(
    state: Path,
    *,
    lake: str,
    store: str,
    images: Path | None,
    pattern: str,
    include_hidden: bool,
    log: Path,
    report: Callable[[str], None],
) -> Iterator[Prepared]:
    """Lock the lake, start the store, fill the lake and migrate Airflow's database; release both at the end.

    The caller holds the lock of the state folder.

    Parameters
    ----------
    state : Path
        Folder of Airflow's database, the logs, the models and the data of the S3 store.
    lake : str
        The lake's root.
    store : str
        ``folder`` or ``s3``.
    images : Path or None
        Folder of photos; see :func:`local.run.lake.fill_lake` for the default.
    pattern : str
        File names to import.
    include_hidden : bool
        Whether hidden files are loaded too.
    log : Path
        Log of the child processes.
    report : callable
        Prints one line for the user.

    Raises
    ------
    RunError
        If another run uses the lake, Airflow's database cannot be prepared, or Spark's S3 connector is missing.
    LakeError
        If the lake cannot be filled.
    StoreError
        If the store cannot start.
    """

    def environment(endpoint_url: str, store_url: str | None) -> dict[str, str]:
        return local_environment(
            airflow_home=state / "airflow", endpoint_url=endpoint_url, lake=lake, store_url=store_url
        )

    store_data = state / "s3"
    with (
        lake_lock(lake, store_data),
        local_store(store, store_data, environment(UNREACHABLE_URL, None)) as store_url,
    ):
        environ = environment(UNREACHABLE_URL, store_url)
        if store_url:
            report(f"local S3 store at {store_url}; its data: {store_data}")
        fill_lake(environ, lake, images, pattern, state, log, report, include_hidden=include_hidden)
        database = migrate_database(environ, log, report)
        end_orphaned_runs(environ, database, log, report)
        yield Prepared(lambda endpoint_url: environment(endpoint_url, store_url), database)
