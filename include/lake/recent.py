"""The manifests of the last published states, for what a run learns from earlier ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from include.lake.layout import Lake
from include.lake.objects import LakePath
from include.lake.state import DamagedLakeError, MissingManifestError, current_of, read_manifest, read_pointer
from include.records import Manifest

log = logging.getLogger(__name__)


def recent_manifests(lake: Lake, most: int, aws_conn_id: str | None) -> Iterator[Manifest]:
    """Yield the manifests of the published state and of those before it, the newest first.

    A damaged manifest is skipped with a warning, as is a published one that is missing: the state before is then the
    one with the next lower number.

    Parameters
    ----------
    lake : Lake
        The lake.
    most : int
        Number of manifests to read, damaged ones included.
    aws_conn_id : str or None
        Airflow's connection for S3.
    """
    current = current_of(read_pointer(lake, aws_conn_id))
    path = current["manifest"] if current else None
    for number in range(most):
        if path is None:
            return
        try:
            manifest = read_manifest(lake, path, aws_conn_id)
            before = manifest["previous_manifest"]
            if not isinstance(before, str | None):
                raise TypeError(f"previous_manifest is {before!r}")
        except MissingManifestError as error:
            if number:
                return  # garbage collection keeps fewer states
            log.warning("The manifest of the published state is skipped: %r", error.__cause__)
            path = _path_before(lake, path, aws_conn_id)
        except (DamagedLakeError, KeyError, TypeError) as error:
            log.warning("The manifest %s is damaged and is skipped: %r", path, error.__cause__ or error)
            path = _path_before(lake, path, aws_conn_id)
        else:
            yield manifest
            path = before


def _path_before(lake: Lake, path: str, aws_conn_id: str | None) -> str | None:
    """Return the path of the manifest with the next lower number; names begin with the number."""
    folder, _, name = path.rpartition("/")
    earlier = [other for other in LakePath(lake.manifests, aws_conn_id).names() if other < name]
    return f"{folder}/{max(earlier)}" if earlier else None
