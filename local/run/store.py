"""The storage of the lake of a local run, a folder or the local S3 store, and its lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from local.airflow.home import RunError, exclusive_lock
from local.emr.spark.s3_connector import connector_folder, connector_jars
from local.s3.process import StoreProcess

LOCK = ".lock"
"""File at the root of a lake in a folder, locked during a run."""


@contextlib.contextmanager
def lake_lock(lake: str) -> Iterator[None]:
    """Hold the lock of a lake: two runs must not load photos and publish at the same time.

    A bucket has no lock of its own: it is in the local S3 store, which belongs to one state folder and to its lock.

    Raises
    ------
    RunError
        If another process holds it.
    """
    if not lake.startswith("file://"):
        yield
        return
    folder = lake.removeprefix("file://")
    with exclusive_lock(
        Path(folder) / LOCK,
        f"another `make run` or `make up` uses the lake {folder}: wait for it, stop it, or set LAKE to another folder",
    ):
        yield


@contextlib.contextmanager
def local_store(store: str, folder: Path, environ: dict[str, str]) -> Iterator[str | None]:
    """Run the local S3 store if ``store`` is ``s3``; yield its URL, or None for a folder.

    Raises
    ------
    RunError
        If Spark's S3 connector is missing.
    StoreError
        If the store cannot start.
    """
    if store != "s3":
        yield None
        return
    if not connector_jars(connector_folder()):
        raise RunError(
            "STORE=s3: Spark's S3 connector is not in this environment; `make setup STORE=s3` fetches it, or says why "
            "it cannot"
        )
    with StoreProcess(folder, environment=environ) as process:
        yield process.url
