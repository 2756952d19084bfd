"""The storage of the lake of a local run, a folder or the local S3 store, and its lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from local.airflow.home import RunError, lock_folder
from local.emr.spark.s3_connector import connector_folder, connector_jars
from local.s3.process import StoreProcess

LOCK = ".lock"
"""File that is locked during a run: at the root of a lake in a folder, or in the data of the local S3 store."""


def lake_lock(lake: str, store_data: Path) -> AbstractContextManager[None]:
    """Return the lock of a lake: two runs must not load photos and publish at the same time.

    A bucket is in the data of a local S3 store, and only one store can run on them: their folder is the bucket's lock,
    whatever state folder leads to it.

    Parameters
    ----------
    lake : str
        The lake's root.
    store_data : Path
        Folder of the data of the local S3 store, for a lake in a bucket.
    """
    user = "another `make run` or `make up` uses the lake"
    if not lake.startswith("file://"):
        return lock_folder(store_data / LOCK, f"{user} {lake} in {store_data}: wait for it, or stop it")
    folder = Path(lake.removeprefix("file://"))
    return lock_folder(folder / LOCK, f"{user} {folder}: wait for it, stop it, or set LAKE to another folder")


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
