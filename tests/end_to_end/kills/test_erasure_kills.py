"""An erasure killed before and after each of its writes, then repeated: it ends as one that was not interrupted.

``make soak`` interrupts every operation; ``make test`` interrupts some of them.
"""

from __future__ import annotations

import io
import itertools
import json
import pickle
import re
import shutil
import signal
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from scripts.machine import describe_commit
from tests.end_to_end.conftest import default_settings
from tests.end_to_end.kills import writer
from tests.end_to_end.kills.interruption import TOKENS, Moment
from tests.end_to_end.kills.test_kills import (
    FIRST,
    SECOND,
    Bucket,
    Day,
    Lake,
    Runner,
    assert_same,
    change_photos,
    fill_first_day,
    opened_lake,
    read_results,
    read_state,
    rows,
)
from tests.s3_store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

ERASED = ("data/a/0.jpg", "data/a/worse.jpg")
"""A photo that has changed on the second day, and a reject."""

SAMPLE = 71
"""``make test`` interrupts one in so many operations."""


class VersionedBucket(Bucket):
    """A lake in a bucket that keeps old versions."""

    name = "SeaweedFS, versioned"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._store.s3.put_bucket_versioning(Bucket=self._bucket, VersioningConfiguration={"Status": "Enabled"})
        self._history: list[tuple[str, bytes | None]] = []

    def versions(self) -> Iterator[dict[str, Any]]:
        """Yield all versions and markers, those of a key from the newest to the oldest."""
        for page in self._store.s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket):
            found = [*page.get("Versions", []), *(each | {"Size": None} for each in page.get("DeleteMarkers", []))]
            yield from sorted(found, key=lambda each: (each["LastModified"], each["IsLatest"]), reverse=True)

    def content(self, version: dict[str, Any]) -> bytes | None:
        if version["Size"] is None:
            return None
        names = {"Key": version["Key"], "VersionId": version["VersionId"]}
        data: bytes = self._store.s3.get_object(Bucket=self._bucket, **names)["Body"].read()
        return data

    def save(self) -> None:
        self._history = [(each["Key"], self.content(each)) for each in self.versions()][::-1]

    def restore(self) -> None:
        for each in list(self.versions()):
            self._store.s3.delete_object(Bucket=self._bucket, Key=each["Key"], VersionId=each["VersionId"])
        for key, data in self._history:
            if data is None:
                self._store.s3.delete_object(Bucket=self._bucket, Key=key)
            else:
                self._store.s3.put_object(Bucket=self._bucket, Key=key, Body=data)


@pytest.fixture
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    with opened_lake(request.param, tmp_path, VersionedBucket) as lake:
        yield lake


def erase(runner: Runner, number: int | None = None, moment: Moment = "before") -> int:
    """Run an erasure in a process of its own; return the exit code."""
    shutil.rmtree(runner.notes, ignore_errors=True)
    runner.notes.mkdir()
    environ = default_settings() | {"FRUITS_LAKE": runner.lake.root, "FRUITS_PROFILE": "local"}
    arguments = (runner.lake.root, ERASED, runner.notes, environ | runner.lake.environ, (number, moment))
    process = runner.processes.Process(target=writer.erase, args=arguments)
    process.start()
    process.join(900)
    assert process.exitcode is not None, "the erasure hangs"
    return int(process.exitcode)


def all_content(lake: Lake) -> Iterator[tuple[str, bytes]]:
    """Yield every version of every file."""
    if isinstance(lake, VersionedBucket):
        for version in lake.versions():
            yield version["Key"], lake.content(version) or b""
    else:
        for path in lake.paths():
            yield path, lake.read(path)


def assert_no_trace(lake: Lake) -> None:
    for path, data in all_content(lake):
        is_table = data[:4] == b"PAR1"
        text = repr(pq.read_table(io.BytesIO(data)).to_pylist()).encode() if is_table else data
        for name in ERASED:
            assert name not in path
            assert name.encode() not in text, path


def read_states(lake: Lake) -> dict[int, dict[str, bytes]]:
    """Return the features of all kept states by their numbers."""
    found = {}
    path = json.loads(lake.read("current.json"))["manifest"]
    while path and path in lake.paths():
        manifest = json.loads(lake.read(path))
        ids = [segment["id"] for segment in manifest["segments"] if segment["features"]]
        tables = [pq.read_table(io.BytesIO(lake.read(f"segments/{id_}/features.parquet"))).to_pandas() for id_ in ids]
        found[manifest["state"]] = rows(tables)
        path = manifest["previous_manifest"]
    return found


def names(lake: Lake) -> set[str]:
    """Return the names of all files, without what differs between two erasures."""
    paths = {re.sub(r"(manifests/.*)-[0-9a-f]{8}(?=\.json)", r"\1", path) for path in lake.paths()}
    return {TOKENS.sub("*", path) for path in paths if not path.endswith(".lock")}


def cases() -> Iterator[Any]:
    for store, moment in itertools.product(("folder", "SeaweedFS, versioned"), ("before", "after", "lost")):
        if store == "folder" and moment == "lost":
            continue  # a folder gives no answer that could be lost
        yield pytest.param(store, moment, 1, id=f"{store}, {moment}, all", marks=pytest.mark.soak)
        if store == "folder":
            yield pytest.param(store, moment, SAMPLE, id=f"{store}, {moment}, some")


@pytest.mark.parametrize(("lake", "moment", "every"), list(cases()), indirect=["lake"])
def test_an_erasure_interrupted_at_a_write(
    processes: Any, lake: Lake, tmp_path: Path, moment: Moment, every: int, record_property: Any
) -> None:
    runner = Runner(processes, lake, tmp_path / "notes")
    fill_first_day(lake)
    assert runner.run(FIRST) == 0
    change_photos(lake)
    assert runner.run(SECOND) == 0
    before = read_state(lake)
    lake.save()
    assert erase(runner) == 0
    operations = pickle.loads((runner.notes / "operations").read_bytes())
    after, states, files = read_state(lake), read_states(lake), names(lake)
    assert set(states) == {1, 2}
    assert set(before.features) - set(after.features) == {f"{lake.root}/{ERASED[0]}"}
    assert_no_trace(lake)
    assert len(operations) > 40
    chosen = range(zlib.crc32(moment.encode()) % every, len(operations), every)
    for number in chosen:
        lake.restore()
        try:
            code = erase(runner, number, moment)
            assert code == (1 if moment == "lost" else -signal.SIGKILL) or moment == "lost", code
            check_readers(lake, before, after)
            assert erase(runner) == 0
            assert_same(read_state(lake), after)
            assert read_states(lake) == states
            assert rows([read_results(lake)]) == after.features
            assert names(lake) == files
            assert_no_trace(lake)
        except AssertionError as error:
            raise AssertionError(f"{operations[number]} (operation {number}, {moment})") from error
    record_property("commit", describe_commit())
    record_property("kills", json.dumps([lake.name, "", moment, False, [operations[number] for number in chosen]]))


def check_readers(lake: Lake, before: Day, after: Day) -> None:
    """Readers see the old or the new state, with all its files; a reader of ``results/`` misses no row that stays."""
    state = read_state(lake)
    assert_same(state, before if state.features == before.features else after)
    assert set(read_results(lake)["path"]) >= set(after.features)
