"""The commit of a new state: its manifest is written, then the pointer is moved, if no other run has moved it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from include.lake.layout import Lake
from include.lake.manifest import basis_in_use
from include.lake.objects import LakePath
from include.lake.state import MissingManifestError, Pointer, current_of, read_manifest, read_pointer
from include.records import Current, Manifest
from spark_jobs.lake.storage import create, replace


class RestoreError(RuntimeError):
    """The state to restore is not kept, or is published already."""


class ConflictError(RuntimeError):
    """Another run has published since this run found the changes; nothing that people read was changed."""


def commit(lake: Lake, manifest: Manifest, base: str | None, published_at: str, aws_conn_id: str | None) -> Current:
    """Make a state the published one; return the pointer to it.

    A repetition has the same effect as one call: a state that is published already is not published again, and a
    manifest that an interrupted attempt has written is used as it is.

    Parameters
    ----------
    lake : Lake
        The lake.
    manifest : Manifest
        The state, without its number and the manifest before it.
    base : str or None
        ``base`` of ``find_changes``: the published state must be this one still, or the one of this manifest.
    published_at : str
        ISO 8601 time in UTC.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Raises
    ------
    ConflictError
        If another run has published. Its state stays.
    """
    pointer = read_pointer(lake, aws_conn_id)
    current = current_of(pointer)
    if current is not None and _is_same(read_manifest(lake, current["manifest"], aws_conn_id), manifest):
        return current
    if (pointer.digest if pointer else None) != base:
        raise _conflict(pointer)
    return _publish(lake, manifest, pointer, published_at, aws_conn_id)


def restore(lake: Lake, state: int, published_at: str, aws_conn_id: str | None) -> Current:
    """Publish a kept state again, as a new state; return the pointer to it.

    Parameters
    ----------
    lake : Lake
        The lake.
    state : int
        Number of the state to restore.
    published_at : str
        ISO 8601 time in UTC.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Raises
    ------
    RestoreError
        If the state is not kept, or is the published one.
    ConflictError
        If a run publishes at the same time. Its state stays.
    """
    pointer = read_pointer(lake, aws_conn_id)
    current = current_of(pointer)
    if current is None:
        raise RestoreError(f"{lake.root} has no published state")
    if current["state"] == state:
        raise RestoreError(f"the state {state} is the published one")
    kept: list[int] = []
    path = current["manifest"]
    while path:
        try:
            manifest = read_manifest(lake, path, aws_conn_id)
        except MissingManifestError:
            break
        kept.append(manifest["state"])
        if manifest["state"] == state:
            return _publish(lake, manifest, pointer, published_at, aws_conn_id)
        path = manifest["previous_manifest"] or ""
    raise RestoreError(f"the state {state} is not kept; expected one of {', '.join(map(str, kept[1:])) or 'none'}")


def _publish(
    lake: Lake, manifest: Manifest, pointer: Pointer | None, published_at: str, aws_conn_id: str | None
) -> Current:
    """Write a manifest with the next number, and move the pointer to it."""
    current = current_of(pointer)
    number = (current["state"] if current else 0) + 1
    before = current["manifest"] if current else None
    path, written = _write_manifest(lake, {**manifest, "state": number, "previous_manifest": before}, aws_conn_id)
    return _replace_pointer(lake, pointer, _pointer_to(path, written, published_at, lake), aws_conn_id)


def move_pointer(
    lake: Lake,
    manifests: Sequence[tuple[str, Manifest]],
    pointer: Pointer | None,
    published_at: str,
    aws_conn_id: str | None,
) -> Current:
    """Replace manifests of kept states by new ones, and move the pointer to the last of them; return the pointer.

    Parameters
    ----------
    lake : Lake
        The lake.
    manifests : sequence of (str, Manifest)
        New manifests and their paths in the lake, the oldest first. No other writer uses these paths.
    pointer : Pointer or None
        The pointer as it was when the states were read.
    published_at : str
        ISO 8601 time in UTC.
    aws_conn_id : str or None
        Airflow's connection for S3.

    Raises
    ------
    ConflictError
        If a run has published meanwhile. Its state stays, and the new manifests are of no use.
    """
    for name, manifest in manifests:
        path = LakePath(lake.absolute(name), aws_conn_id)
        if not create(path.uri, _encode(manifest), path.buckets):
            raise ConflictError(f"{name} exists and has another state: repeat the command")
    return _replace_pointer(lake, pointer, _pointer_to(*manifests[-1], published_at, lake), aws_conn_id)


def _replace_pointer(lake: Lake, pointer: Pointer | None, record: Current, aws_conn_id: str | None) -> Current:
    """Replace the pointer that was read; return the new one."""
    target = LakePath(lake.current, aws_conn_id)
    if not replace(target.uri, _encode(record), pointer.tag if pointer else None, target.buckets):
        raise _conflict(read_pointer(lake, aws_conn_id))
    return record


def _conflict(pointer: Pointer | None) -> ConflictError:
    other = pointer.record.get("run", "unknown") if pointer and pointer.record else "unknown"
    return ConflictError(
        f"the run {other} has published since this run found the changes; its results stay as they are. Trigger a new "
        "run, or clear open_run with its downstream tasks: it will find what has changed since"
    )


def _write_manifest(lake: Lake, manifest: Manifest, aws_conn_id: str | None) -> tuple[str, Manifest]:
    """Write a manifest; return its path in the lake, and the manifest that is there."""
    name = f"manifests/{manifest['state']:06d}-{manifest['run']}.json"
    path = LakePath(lake.absolute(name), aws_conn_id)
    if create(path.uri, _encode(manifest), path.buckets):
        return name, manifest
    written = read_manifest(lake, name, aws_conn_id)
    if _is_same(written, manifest):
        return name, written
    raise ConflictError(
        f"{name} has another state, from an earlier attempt of this run: clear open_run with its downstream tasks"
    )


def _is_same(one: Manifest, other: Manifest) -> bool:
    """Return whether two manifests are of the same outcome; time and cost may differ between attempts to publish."""
    return all(one[name] == other[name] for name in ("run", "segments", "pca"))


def _pointer_to(path: str, manifest: Manifest, published_at: str, lake: Lake) -> Current:
    locations = lake.run(manifest["run"])
    features = [lake.features(segment["id"]) for segment in manifest["segments"] if segment["features"]]
    return {
        "manifest": path,
        "state": manifest["state"],
        "run": manifest["run"],
        "run_id": manifest["run_id"],
        "published_at": published_at,
        "images": manifest["featurize"]["features"],
        "rejects": manifest["featurize"]["rejects"],
        "k": manifest["pca"]["k"],
        "variance_reached": manifest["pca"]["variance_reached"],
        "warnings": manifest["warnings"],
        "features": [lake.relative(uri) for uri in features],
        "scores": lake.relative(locations.scores),
        "csv": lake.relative(locations.csv),
        "basis": basis_in_use(manifest["pca"].get("basis"), manifest["run"]),
    }


def _encode(record: Manifest | Current) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()
