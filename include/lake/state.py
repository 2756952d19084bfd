"""The published state of the lake: the pointer ``current.json`` and the manifest that it names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, cast

from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json
from include.records import Current, Manifest
from spark_jobs.lake.storage import Tag, read_tagged


class DamagedLakeError(RuntimeError):
    """The pointer names a manifest that is missing or damaged."""


class MissingManifestError(DamagedLakeError):
    """A manifest does not exist."""


@dataclass(frozen=True)
class Pointer:
    """The content of ``current.json`` at one moment.

    Attributes
    ----------
    tag : Tag
        Identifies the content for a conditional write.
    digest : str
        SHA-256 of the content.
    record : dict or None
        The content; None if it is not a JSON object.
    """

    tag: Tag
    digest: str
    record: dict[str, Any] | None

    @property
    def current(self) -> Current | None:
        """The record, if it names a manifest; a lake of the first version and a damaged file name none."""
        if self.record is None or not isinstance(self.record.get("manifest"), str):
            return None
        return cast(Current, self.record)


def read_pointer(lake: Lake, aws_conn_id: str | None) -> Pointer | None:
    """Return the pointer to the published state, or None if nothing has been published."""
    path = LakePath(lake.current, aws_conn_id)
    found = read_tagged(path.uri, path.buckets)
    if found is None:
        return None
    data, tag = found
    try:
        record = json.loads(data)
    except ValueError:
        record = None
    return Pointer(tag, hashlib.sha256(data).hexdigest(), record if isinstance(record, dict) else None)


def current_of(pointer: Pointer | None) -> Current | None:
    """Return the record of the published state; None if nothing is published, or the pointer names no manifest."""
    return pointer.current if pointer else None


def read_manifest(lake: Lake, path: str, aws_conn_id: str | None) -> Manifest:
    """Return a manifest, given its path in the lake.

    Raises
    ------
    MissingManifestError
        If it does not exist.
    DamagedLakeError
        If it is damaged.
    """
    try:
        return cast(Manifest, read_json(LakePath(lake.absolute(path), aws_conn_id), "publish_results writes it"))
    except (FileNotFoundError, ValueError) as error:
        kind = MissingManifestError if isinstance(error, FileNotFoundError) else DamagedLakeError
        raise kind(
            f"{error}. Restore the file from a version or a backup of the bucket. Or delete {lake.current}: then the "
            "next run computes everything again"
        ) from error


def is_published(lake: Lake, run: str, aws_conn_id: str | None) -> bool:
    """Return whether a run has published, or has begun to: then its files must not be replaced."""
    if any(run in name for name in LakePath(lake.manifests, aws_conn_id).names()):
        return True
    return LakePath(lake.run(run).first_version_manifest, aws_conn_id).exists()
