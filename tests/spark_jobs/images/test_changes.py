"""The changes since the published state, compared with the arithmetic of Python's dictionaries and sets."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spark_jobs.errors import JobError
from spark_jobs.images import changes
from spark_jobs.images.changes import Published
from spark_jobs.records import Changes, Fingerprint, Segment
from tests.s3_store import Store, use_environment

FINGERPRINT: Fingerprint = {"digest": "a" * 64, "inputs": {"model": "m", "pillow": "13.0.0"}}
OTHER_FINGERPRINT: Fingerprint = {"digest": "b" * 64, "inputs": {"model": "m", "pillow": "12.0.0"}}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FOLDERS = ["a", "a-", "a!b", "a.jpg", "a0", "A", "pêche", "pe\u0302che", "桃", "😀", "a/b", "a/b-c", "%20", "50 % off"]
NAMES = ["1.jpg", "10.JPG", "1-.jpg", "é.jpg", "\uffee.jpg", "😀.jpg", "a#b+c?.jpg", " .jpeg"]

paths_of_images = st.builds("{}/{}".format, st.sampled_from(FOLDERS), st.sampled_from(NAMES))


class Version(NamedTuple):
    """What a listing says of an image."""

    size: int
    modified: int
    etag: str | None = None


def segment(number: int) -> Segment:
    return {
        "id": f"s-{number}", "fingerprint": "a" * 64, "images": 1, "features": 1, "rejects": 0, "bytes": 1,
        "vectors": None, "first_path": "", "last_path": "", "results": [],
    }  # fmt: skip


SEGMENTS = [segment(1), segment(2)]


def listing_of(root: str, versions: Mapping[str, Version], *, with_etags: bool = True) -> bytes:
    """Return a published listing; one of the lake's first version has no column of ETags."""
    rows = sorted(versions, key=lambda path: f"{root}/{path}".encode())
    columns: dict[str, Any] = {
        "path": [f"{root}/{path}" for path in rows],
        "label": [f"{root}/{path}".split("/")[-2] for path in rows],
        "size": pa.array([versions[path].size for path in rows], pa.int64()),
        "modification_time": pa.array([versions[path].modified for path in rows], pa.timestamp("us", "UTC")),
    }
    if with_etags:
        columns["etag"] = pa.array([versions[path].etag for path in rows], pa.string())
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=3)
    return sink.getvalue()


def expected_counts(before: Mapping[str, Version], now: Mapping[str, Version], changed: set[str]) -> dict[str, int]:
    work = (now.keys() - before.keys()) | changed
    return {
        "listed": len(now),
        "new": len(now.keys() - before.keys()),
        "changed": len(changed),
        "gone": len(before.keys() - now.keys()),
        "work": len(work),
        "work_bytes": sum(now[path].size for path in work),
    }


def check(
    found: Changes,
    files: Mapping[str, bytes],
    root: str,
    before: Mapping[str, Version],
    now: Mapping[str, Version],
    changed: set[str],
) -> None:
    """Compare everything that ``find`` wrote with the two dictionaries."""
    assert json.loads(files["changes.json"]) == found
    work = (now.keys() - before.keys()) | changed
    gone = (before.keys() - now.keys()) | changed
    assert {name: found[name] for name in expected_counts(before, now, changed)} == expected_counts(  # type: ignore[literal-required]
        before, now, changed
    )
    tables = {name: pq.read_table(io.BytesIO(data)) for name, data in files.items() if name.endswith(".parquet")}
    for name, expected in (("listing.parquet", set(now)), ("work.parquet", work), ("gone.parquet", gone)):
        assert tables[name]["path"].to_pylist() == sorted((f"{root}/{path}" for path in expected), key=str.encode)
    for name, data in files.items():
        if name.endswith(".parquet"):
            footer = pq.read_metadata(io.BytesIO(data))
            assert all(footer.row_group(group).num_rows for group in range(footer.num_row_groups)), "no group is empty"
    for name in ("listing.parquet", "work.parquet"):
        for row in tables[name].to_pylist():
            path = row["path"].removeprefix(f"{root}/")
            micros = (row["modification_time"] - EPOCH) // timedelta(microseconds=1)
            assert (row["size"], micros, row["etag"]) == now[path]
            assert row["label"] == row["path"].rstrip("/").split("/")[-2]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a dozen images fill several row groups and batches."""
    monkeypatch.setattr(changes, "ROWS_PER_GROUP", 3)
    monkeypatch.setattr(changes, "ROWS_READ", 2)


KINDS = ["gone", "new", "same", "size", "time", "both"]
"""What happens to an image between the two listings."""


def versions_of(kind: str, number: int) -> tuple[Version | None, Version | None]:
    """Return an image's version before and now; the numbers of the images give them sizes and times of their own."""
    version = Version(number % 4, 1_700_000_000_000_000 + 1_000_003 * number)
    now = {
        "gone": None,
        "size": version._replace(size=version.size + 1),
        "time": version._replace(modified=version.modified + 1),
        "both": version._replace(size=version.size + 1, modified=version.modified - 1),
    }.get(kind, version)
    return None if kind == "new" else version, now


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.dictionaries(paths_of_images, st.sampled_from(KINDS), min_size=1, max_size=24), with_etags=st.booleans()
)
@pytest.mark.usefixtures("small_batches")
def test_changes_in_a_folder_are_those_of_dictionaries(
    tmp_path: Path, kinds: dict[str, str], *, with_etags: bool
) -> None:
    both = {path: versions_of(kind, number) for number, (path, kind) in enumerate(kinds.items())}
    before = {path: version for path, (version, _) in both.items() if version is not None}
    now = {path: version for path, (_, version) in both.items() if version is not None}
    images, run = tmp_path / "photos", tmp_path / "run"
    for folder in (images, run):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    for path, version in now.items():
        (images / path).parent.mkdir(parents=True, exist_ok=True)
        (images / path).write_bytes(bytes(version.size))
        os.utime(images / path, ns=(0, version.modified * 1000))
    (tmp_path / "published.parquet").write_bytes(listing_of(f"file://{images}", before, with_etags=with_etags))
    published = Published(f"file://{tmp_path}/published.parquet", FINGERPRINT, SEGMENTS, run="file:///lake/runs/before")
    # A folder whose name is that of an image is listed too: it is an image that cannot be read.
    folders = {f"{path.rpartition('/')[0]}/" for path in now if "a.jpg/" in path}
    now |= dict.fromkeys(folders, Version(0, 0))
    folder = changes.Folder(f"file://{images}", "*.jpg,*.jpeg")

    def find() -> Changes:
        return changes.find(folder, f"file://{run}", FINGERPRINT, published)

    if not now:
        with pytest.raises(changes.NoImagesError):
            find()
        return
    found = find()
    changed = {path for path in before.keys() & now.keys() if before[path] != now[path]}
    written = {file.name: file.read_bytes() for file in run.iterdir()}
    directory_times = {path: _time_in(written["listing.parquet"], f"file://{images}/{path}") for path in folders}
    now |= {path: Version(0, time) for path, time in directory_times.items()}
    check(found, written, f"file://{images}", before, now, changed)
    assert (found["everything"], found["segments"], found["first_version"]) == (None, SEGMENTS, None)
    assert found["published"] == "file:///lake/runs/before"


def _time_in(listing: bytes, path: str) -> int:
    """The time of a folder, which the file system sets; a test does not choose it."""
    table = pq.read_table(io.BytesIO(listing))
    times = dict(zip(table["path"].to_pylist(), table["modification_time"].cast(pa.int64()).to_pylist(), strict=True))
    time: int = times[path]
    return time


@pytest.fixture(scope="module")
def photos_bucket(store: Store) -> Iterator[str]:
    name = store.new_bucket()
    yield name
    store.delete_bucket(name)


@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(
    kinds=st.dictionaries(
        paths_of_images.filter(lambda path: "a.jpg/" not in path),
        st.sampled_from(["gone", "new", "same", "size", "bytes", "written again"]),
        min_size=6,
        max_size=14,
    )
)
@pytest.mark.usefixtures("small_batches")
def test_changes_in_a_bucket_are_those_of_dictionaries(
    store: Store, photos_bucket: str, monkeypatch: pytest.MonkeyPatch, kinds: dict[str, str]
) -> None:
    """By size and ETag: an object that is written again with the same bytes has not changed."""
    use_environment(monkeypatch, store.url)
    for key in store.keys(photos_bucket):
        store.s3.delete_object(Bucket=photos_bucket, Key=key)
    kinds["a/never changed.jpg"] = "same"
    content = {path: f"{number:04}".encode() for number, path in enumerate(kinds)}
    for path, kind in kinds.items():
        if kind != "new":
            store.put(photos_bucket, f"data/{path}", content[path])
    before = versions_in(store, photos_bucket)
    for path, kind in kinds.items():
        key = f"data/{path}"
        if kind == "gone":
            store.s3.delete_object(Bucket=photos_bucket, Key=key)
        elif kind != "same":
            data = {"size": content[path] + b" and more", "bytes": b"?" + content[path][1:]}.get(kind, content[path])
            store.put(photos_bucket, key, data)
    now = versions_in(store, photos_bucket)
    root = f"s3://{photos_bucket}/data"
    store.put(photos_bucket, "published.parquet", listing_of(root, before))
    published = Published(f"s3://{photos_bucket}/published.parquet", FINGERPRINT, SEGMENTS)
    found = changes.find(changes.Folder(root, "*.jpg,*.jpeg"), f"s3://{photos_bucket}/run", FINGERPRINT, published)
    files = {key.rpartition("/")[2]: store.read(photos_bucket, key) for key in store.keys(photos_bucket, "run/")}
    changed = {path for path in before.keys() & now.keys() if kinds[path] in ("size", "bytes")}
    assert all((before[path].size, before[path].etag) != (now[path].size, now[path].etag) for path in changed)
    assert all(before[path].size == now[path].size for path in changed if kinds[path] == "bytes")
    check(found, files, root, before, now, changed)


def versions_in(store: Store, bucket: str) -> dict[str, Version]:
    """Return the images of a bucket as boto3 lists them."""
    pages = store.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="data/")
    return {
        item["Key"].removeprefix("data/"): Version(
            item["Size"], (item["LastModified"] - EPOCH) // timedelta(microseconds=1), item["ETag"].strip('"')
        )
        for page in pages
        for item in page.get("Contents", [])
        if not item["Key"].endswith("/")
    }


class Lake(NamedTuple):
    """A folder of three photos, and the state that was published when a fourth was there and one was another."""

    folder: changes.Folder
    run: Path
    published: Published


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    images = tmp_path / "photos"
    (images / "a").mkdir(parents=True)
    for name in ("same", "changed", "new"):
        (images / "a" / f"{name}.jpg").write_bytes(b"1234")
        os.utime(images / "a" / f"{name}.jpg", ns=(0, 5_000))
    before = {f"a/{name}.jpg": Version(4, 5) for name in ("same", "gone")} | {"a/changed.jpg": Version(3, 5)}
    (tmp_path / "published.parquet").write_bytes(listing_of(f"file://{images}", before))
    published = Published(f"file://{tmp_path}/published.parquet", FINGERPRINT, SEGMENTS, "file:///lake/runs/first")
    return Lake(changes.Folder(f"file://{images}", "*.jpg"), tmp_path / "run", published)


def find(lake: Lake, published: Published | None, fingerprint: Fingerprint = FINGERPRINT, **options: bool) -> Changes:
    return changes.find(lake.folder, f"file://{lake.run}", fingerprint, published, **options)


def names_in(lake: Lake, list_name: str) -> list[str]:
    return [Path(path).stem for path in pq.read_table(lake.run / f"{list_name}.parquet")["path"].to_pylist()]


def test_without_a_reason_only_changes_are_computed_and_segments_are_kept(lake: Lake) -> None:
    found = find(lake, lake.published)
    assert (found["everything"], found["segments"]) == (None, SEGMENTS)
    assert found["first_version"] == "file:///lake/runs/first"
    assert (names_in(lake, "work"), names_in(lake, "gone")) == (["changed", "new"], ["changed", "gone"])


@pytest.mark.parametrize(
    ("fingerprint", "full_run", "reason"),
    [
        (FINGERPRINT, True, "full_run is set"),
        (OTHER_FINGERPRINT, False, "the fingerprint of the features has changed (pillow: 13.0.0 → 12.0.0)"),
    ],
)
def test_a_reason_to_compute_everything_keeps_no_segment(
    lake: Lake, fingerprint: Fingerprint, full_run: bool, reason: str
) -> None:
    published = replace(lake.published, run="file:///lake/runs/before")
    found = find(lake, published, fingerprint, full_run=full_run)
    assert (found["everything"], found["segments"], found["first_version"]) == (reason, [], None)
    assert found["published"] == "file:///lake/runs/before", "its basis may be kept"
    assert found["fingerprint"] == fingerprint
    counts = {name: found[name] for name in ("listed", "new", "changed", "gone", "work", "work_bytes")}  # type: ignore[literal-required]
    assert counts == {"listed": 3, "new": 1, "changed": 1, "gone": 1, "work": 3, "work_bytes": 12}
    assert names_in(lake, "work") == names_in(lake, "listing") == ["changed", "new", "same"]
    assert names_in(lake, "gone") == [], "no segment has rows to remove"


@pytest.mark.parametrize("full_run", [False, True])
def test_without_a_published_state_everything_is_new(lake: Lake, full_run: bool) -> None:
    found = find(lake, None, full_run=full_run)
    assert (found["everything"], found["segments"], found["first_version"]) == ("no state is published yet", [], None)
    assert (found["new"], found["changed"], found["gone"], found["work"]) == (3, 0, 0, 3)
    assert names_in(lake, "gone") == []


def test_an_unchanged_folder_has_nothing_to_do(lake: Lake, tmp_path: Path) -> None:
    find(lake, None)
    listing = (lake.run / "listing.parquet").read_bytes()
    (tmp_path / "published.parquet").write_bytes(listing)
    found = find(lake, lake.published)
    assert [found[name] for name in ("listed", "new", "changed", "gone", "work", "work_bytes")] == [3, 0, 0, 0, 0, 0]  # type: ignore[literal-required]
    assert found["everything"] is None
    for name in ("work", "gone"):
        assert names_in(lake, name) == []
    assert (lake.run / "listing.parquet").read_bytes() == listing


def test_a_published_listing_that_is_lost_is_an_error_and_no_full_run(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "published.parquet").unlink()
    with pytest.raises((JobError, FileNotFoundError), match=r"published\.parquet"):
        find(lake, lake.published)
    assert not (lake.run / "changes.json").exists()
