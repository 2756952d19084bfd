"""The storage of the lake of a local run: a folder, or the local S3 store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from include.settings.readers import read_location
from local.airflow.home import RunError
from local.emr.spark.s3_connector import connector_folder, connector_jars
from local.environment import LOCAL
from local.s3.process import StoreProcess

DEFAULT_BUCKET = "s3://fruits"


def locate_lake(text: str | None, store: str) -> str:
    """Return the lake's root, given the values of ``LAKE`` and ``STORE``.

    Raises
    ------
    RunError
        If the lake is not valid for that store.
    """
    if store == "s3":
        root = text or DEFAULT_BUCKET
        if not root.startswith("s3://"):
            raise RunError(f"LAKE={text}: expected s3://bucket[/folder] with STORE=s3")
        try:
            return read_location(root)
        except ValueError as error:
            raise RunError(f"LAKE={text}: expected {error}") from None
    if text is not None and "://" in text and not text.startswith("file:///"):
        raise RunError(f"LAKE={text}: expected a folder; for a bucket on the local S3 store, add STORE=s3")
    folder = Path(text.removeprefix("file://")) if text else LOCAL / "lake"
    return f"file://{folder.expanduser().absolute()}"


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
