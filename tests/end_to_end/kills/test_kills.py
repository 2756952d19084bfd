"""A day's run killed before and after each of its writes, then repeated: no state is half, and nothing is left over.

``make soak`` interrupts every operation and writes ``docs/kills.md``; ``make test`` interrupts some of them.
"""

from __future__ import annotations

import contextlib
import fnmatch
import io
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scripts.machine import describe_commit
from tests.end_to_end.conftest import default_settings
from tests.end_to_end.kills import writer
from tests.end_to_end.kills.interruption import Moment
from tests.s3_store import REGION, Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

FIRST, SECOND = "20261121T000000Z-aaaaaaaa", "20261122T000000Z-bbbbbbbb"
STORES = ("folder", "SeaweedFS")
SAMPLE = 29
"""``make test`` interrupts one in so many operations."""

RANDOM_KILLS = 100

Rows = dict[str, bytes]


class Folder:
    """A lake in a folder, with copies to start from."""

    name = "folder"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._root = folder / "lake"
        self.root = f"file://{self._root}"
        self.environ: dict[str, str] = {}

    def put(self, path: str, data: bytes) -> None:
        (self._root / path).parent.mkdir(parents=True, exist_ok=True)
        (self._root / path).write_bytes(data)

    def delete(self, path: str) -> None:
        (self._root / path).unlink()

    def read(self, path: str) -> bytes:
        return (self._root / path).read_bytes()

    def paths(self) -> set[str]:
        files = (path for path in self._root.rglob("*") if path.is_file())
        return {str(path.relative_to(self._root)) for path in files}

    def save(self) -> None:
        """Keep the present content."""
        shutil.copytree(self._root, self._folder / "saved", dirs_exist_ok=False)

    def restore(self) -> None:
        """Go back to the content that was kept."""
        shutil.rmtree(self._root)
        shutil.copytree(self._folder / "saved", self._root)


class Bucket:
    """A lake in a bucket on SeaweedFS."""

    name = "SeaweedFS"

    def __init__(self, store: Store) -> None:
        self._store, self._bucket = store, store.new_bucket()
        self.root = f"s3://{self._bucket}/a-lake"
        self.environ = {
            "AWS_ENDPOINT_URL_S3": store.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }
        self._saved: dict[str, bytes] = {}

    def put(self, path: str, data: bytes) -> None:
        self._store.put(self._bucket, f"a-lake/{path}", data)

    def delete(self, path: str) -> None:
        self._store.s3.delete_object(Bucket=self._bucket, Key=f"a-lake/{path}")

    def read(self, path: str) -> bytes:
        return self._store.read(self._bucket, f"a-lake/{path}")

    def paths(self) -> set[str]:
        return {key.removeprefix("a-lake/") for key in self._store.keys(self._bucket)}

    def save(self) -> None:
        self._saved = {path: self.read(path) for path in self.paths()}

    def restore(self) -> None:
        for path in self.paths():
            # Photos stay: another modification time or ETag would make them changed ones.
            if not path.startswith("data/") and path not in self._saved:
                self.delete(path)
        for path, data in self._saved.items():
            if not path.startswith("data/"):
                self.put(path, data)


Lake = Folder | Bucket


@dataclass
class Day:
    """What a reader sees of a state."""

    features: Rows
    scores: dict[str, np.ndarray[Any, Any]]
    rejects: set[str]


def image(number: int) -> bytes:
    return f"image {number}".encode()


def fill_first_day(lake: Lake) -> None:
    for number in range(9):
        lake.put(f"data/{'ab'[number % 2]}/{number}.jpg", image(number))
    lake.put("data/b/bad.jpg", writer.BAD)


def add_photos(lake: Lake) -> None:
    for number in (20, 21, 22):
        lake.put(f"data/a/{number}.jpg", image(number))
    lake.put("data/a/worse.jpg", writer.BAD)


def change_photos(lake: Lake) -> None:
    add_photos(lake)
    lake.put("data/a/0.jpg", image(100))
    lake.put("data/b/bad.jpg", image(101))
    lake.delete("data/b/1.jpg")


DAYS: dict[str, Callable[[Lake], None]] = {"photos are added": add_photos, "photos change and go": change_photos}


@contextlib.contextmanager
def opened_lake(store: str, folder: Path, bucket: type[Bucket]) -> Iterator[Lake]:
    """Open an empty lake: a folder, or a bucket on a store of its own."""
    if store == "folder":
        yield Folder(folder)
        return
    (folder / "store").mkdir()
    with contextlib.closing(Store(folder / "store")) as opened:
        yield bucket(opened)


@pytest.fixture(params=STORES)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    with opened_lake(request.param, tmp_path, Bucket) as lake:
        yield lake


@dataclass
class Runner:
    """Runs days in processes of their own."""

    processes: Any
    lake: Lake
    notes: Path

    decodes: bool = False

    def run(self, slug: str, *, number: int | None = None, moment: Moment = "before", resume: bool = False) -> int:
        """Run a day; ``resume`` continues with the stage that was interrupted. Return the exit code."""
        process = self.start(slug, number=number, moment=moment, resume=resume)
        process.join(120)
        assert process.exitcode is not None, "the run hangs"
        return int(process.exitcode)

    def start(self, slug: str, *, number: int | None = None, moment: Moment = "before", resume: bool = False) -> Any:
        if not resume:
            shutil.rmtree(self.notes, ignore_errors=True)
            self.notes.mkdir()
            (self.notes / "round").write_text(uuid.uuid4().hex[:12])
        round_ = (self.notes / "round").read_text()
        environ = default_settings() | {
            "FRUITS_LAKE": self.lake.root,
            "FRUITS_AWS_CONN_ID": "none",
            "FRUITS_PROFILE": "local",
            "FRUITS_KEPT_STATES": "1",
        }
        arguments = (
            self.lake.root,
            slug,
            round_,
            self.notes,
            environ | self.lake.environ,
            (number, moment),
            self.decodes,
        )
        process = self.processes.Process(target=writer.run_day, args=arguments)
        process.start()
        return process

    def collect_garbage(self) -> int:
        """Delete what no kept state names, however young it is; return the exit code."""
        process = self.processes.Process(target=writer.collect, args=(self.lake.root, self.lake.environ))
        process.start()
        process.join(120)
        return int(process.exitcode)

    def operations(self) -> list[str]:
        return pickle.loads((self.notes / "operations").read_bytes())


@pytest.fixture
def runner(processes: Any, lake: Lake, tmp_path: Path) -> Runner:
    runner = Runner(processes, lake, tmp_path / "notes")
    fill_first_day(lake)
    assert runner.run(FIRST) == 0
    return runner


def table(lake: Lake, path: str) -> pd.DataFrame:
    return pq.read_table(io.BytesIO(lake.read(path))).to_pandas()


def rows(frames: list[pd.DataFrame]) -> Rows:
    frame = pd.concat(frames)
    assert frame["path"].is_unique, "a row is there twice"
    return {row.path: row.features.tobytes() for row in frame.itertuples()}


def read_state(lake: Lake) -> Day:
    """Read the published state as the documentation says; every file that it names must be there."""
    current = json.loads(lake.read("current.json"))
    manifest = json.loads(lake.read(current["manifest"]))
    features = rows([table(lake, path) for path in current["features"]])
    names = sorted(path for path in lake.paths() if path.startswith(current["scores"]))
    scores = pd.concat(table(lake, path) for path in names)
    assert scores["path"].is_unique
    assert set(scores["path"]) == set(features)
    text = pd.read_csv(io.BytesIO(lake.read(current["csv"])), float_precision="round_trip")
    np.testing.assert_array_equal(text[["F 1", "F 2"]].to_numpy(), np.stack(scores["components"]))
    assert len(features) == current["images"] == manifest["featurize"]["features"]
    rejects = [table(lake, path) for path in lake.paths() if path.startswith(f"runs/{current['run']}/rejects/")]
    found = dict(zip(scores["path"], scores["components"], strict=True))
    return Day(features, found, {path for frame in rejects for path in frame["path"]})


def read_results(lake: Lake) -> pd.DataFrame:
    names = sorted(path for path in lake.paths() if path.startswith("results/part-"))
    return pd.concat(table(lake, path) for path in names)


def expected_rows(lake: Lake) -> Rows:
    """The features of the photos that the lake has now, computed by the test."""
    photos = {path: lake.read(path) for path in lake.paths() if path.startswith("data/")}
    return {
        f"{lake.root}/{path}": writer.features_of(data).tobytes() for path, data in photos.items() if data != writer.BAD
    }


def assert_same(one: Day, other: Day) -> None:
    assert one.features == other.features
    assert one.rejects == other.rejects
    for path, components in one.scores.items():
        np.testing.assert_allclose(components, other.scores[path], rtol=1e-9, atol=1e-9)


def assert_nothing_is_left_over(lake: Lake) -> None:
    """Every file is named by the published state or its manifest, or belongs to the records that runs keep."""
    current = json.loads(lake.read("current.json"))
    manifest = json.loads(lake.read(current["manifest"]))
    segments = {f"segments/{segment['id']}/" for segment in manifest["segments"]}
    segments |= {f"segments/{name.removeprefix('part-').removesuffix('.parquet')}/" for name in manifest["results"]}
    folders = (*segments, f"runs/{current['run']}/", "data/", "reports/")
    files = {current["manifest"], "current.json", "results.json", "results_csv/pca_features.csv", ".current.json.lock"}
    files |= {f"results/{name}" for name in manifest["results"]}
    kept = ("report.html", "report.json", "featurize.json", "pca.json", "pca/model.npz", "cost.json")
    kept += tuple(
        f"pca/insights/{name}" for name in ("insights.json", "unlike_label.csv", "outliers.csv", "duplicates.csv")
    )
    left = [
        path for path in lake.paths() if path not in files and not path.startswith(folders) and not path.endswith(kept)
    ]
    assert left == []
    staged = [path for path in lake.paths() if "/staging/" in path or path.rpartition("/")[2].startswith(".part-")]
    assert staged == []


def interrupt(runner: Runner, day: str, number: int, moment: Moment, before: Day, after: Day, *, resume: bool) -> None:
    """Interrupt an operation of the second day, look at the state as readers do, repeat the run, and look again."""
    lake = runner.lake
    code = runner.run(SECOND, number=number, moment=moment)
    assert code == (1 if moment == "lost" else -signal.SIGKILL) or moment == "lost", code
    state = read_state(lake)
    assert_same(state, before if state.features == before.features else after)
    results = read_results(lake)
    assert set(results["path"]) >= set(before.features) & set(after.features), "a row is missing"
    if "added" in day:
        assert results["path"].is_unique, "a person who reads the folder sees a row twice"
    if code != 0:
        assert runner.run(SECOND, resume=resume) == 0
    assert_same(read_state(lake), after)
    assert rows([read_results(lake)]) == after.features
    csv = lake.read("results_csv/pca_features.csv")
    assert csv == lake.read(json.loads(lake.read("current.json"))["csv"])
    assert runner.collect_garbage() == 0
    assert_same(read_state(lake), after)
    assert_nothing_is_left_over(lake)


def cases() -> Iterator[Any]:
    """Yield the cases of ``make soak``, and those of them with some operations only that ``make test`` runs too."""
    for store, day, moment, resume in itertools.product(STORES, DAYS, ("before", "after", "lost"), (False, True)):
        if store == "folder" and moment == "lost":
            continue  # a folder gives no answer that could be lost
        name = f"{store}, {day}, {moment}, {'task' if resume else 'run'} repeated"
        yield pytest.param(store, day, moment, resume, 1, id=f"{name}, all", marks=pytest.mark.soak)
        if store == "folder" or (moment == "lost" and resume):
            yield pytest.param(store, day, moment, resume, SAMPLE, id=f"{name}, some")


@pytest.mark.parametrize(("lake", "day", "moment", "resume", "every"), list(cases()), indirect=["lake"])
def test_interrupted_at_a_write(
    runner: Runner, day: str, moment: Moment, resume: bool, every: int, operations_glob: str, record_property: Any
) -> None:
    lake = runner.lake
    before = read_state(lake)
    DAYS[day](lake)
    lake.save()
    assert runner.run(SECOND) == 0
    after, operations = read_state(lake), runner.operations()
    assert after.features == expected_rows(lake)
    assert len(operations) > 40
    start = zlib.crc32(f"{day} {moment} {resume}".encode()) % every  # not the same operations in every case
    chosen = [
        number
        for number in range(start, len(operations), every)
        if fnmatch.fnmatchcase(operations[number], operations_glob)
    ]
    for number in chosen:
        lake.restore()
        try:
            interrupt(runner, day, number, moment, before, after, resume=resume)
        except AssertionError as error:
            raise AssertionError(f"{operations[number]} (operation {number}, {moment})") from error
    record_property("commit", describe_commit())
    record_property("kills", json.dumps([lake.name, day, moment, resume, [operations[number] for number in chosen]]))


@pytest.mark.soak
def test_killed_at_random_with_all_its_processes(
    processes: Any, lake: Lake, tmp_path: Path, record_property: Any
) -> None:
    """SIGKILL for the run and the processes of its decoders, at random moments; then the run is repeated."""
    runner = Runner(processes, lake, tmp_path / "notes", decodes=True)
    for number in range(6):
        lake.put(f"data/{'ab'[number % 2]}/{number}.jpg", photo(number))
    assert runner.run(FIRST) == 0
    before = read_state(lake)
    for number in range(6, 9):
        lake.put(f"data/a/{number}.jpg", photo(number))
    lake.put("data/a/0.jpg", photo(20))
    lake.delete("data/b/1.jpg")
    lake.save()
    begin = time.monotonic()
    assert runner.run(SECOND) == 0
    seconds, after = time.monotonic() - begin, read_state(lake)
    source = random.Random(2026)
    for trial in range(RANDOM_KILLS):
        lake.restore()
        process = runner.start(SECOND)
        process.join(source.uniform(0, seconds))
        with contextlib.suppress(ProcessLookupError):  # it has not begun, or has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        state = read_state(lake)
        assert_same(state, before if state.features == before.features else after)
        assert set(read_results(lake)["path"]) >= set(before.features) & set(after.features), trial
        assert runner.run(SECOND, resume=source.random() < 0.5) == 0, trial
        assert_same(read_state(lake), after)
        assert rows([read_results(lake)]) == after.features, trial
        assert runner.collect_garbage() == 0
        assert_nothing_is_left_over(lake)
    record_property("commit", describe_commit())
    record_property("random kills", json.dumps([lake.name, RANDOM_KILLS]))


def photo(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40 + number, 30), (number * 10 % 256, 80, 255 - number)).save(stream, format="JPEG")
    return stream.getvalue()
