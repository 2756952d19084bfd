"""Images in a bucket mirror the loaded folder as images in a folder do, and foreign objects are never lost."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local.images.bucket import ImageBucket
from local.images.loading import ImagesError, LoadResult, has_unloaded_files, load_images
from spark_jobs.args import LOADED_IMAGES_FILE, NOT_LOADED_FILE
from spark_jobs.left_out import describe
from tests.s3_store import Store, use_environment

pytestmark = pytest.mark.slow  # starts an S3 store

PATTERN = "*.jpg,*.jpeg"
ODD = "crème brûlée/Kiwi 100% #1+2 🥝/a b%20&=?«é»+#.jpg"
SECOND = {name: f"photo second/{name}" for name in ("Kiwi/1.jpg", "Lime/1.jpg")}


def photos(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"photo {folder.name}/{name}")
    return folder


class BucketLake:
    """A lake in a bucket's folder, and its content."""

    def __init__(self, store: Store, bucket: str, folder: str) -> None:
        self.store = store
        self.bucket = bucket
        self.prefix = f"{folder}/" if folder else ""
        self.root = f"s3://{bucket}/{folder}".rstrip("/")

    def load(self, folder: Path) -> LoadResult:
        return load_images(folder, ImageBucket(self.root), PATTERN)

    def put(self, name: str, text: str) -> None:
        self.store.put(self.bucket, f"{self.prefix}{name}", text.encode(errors="surrogateescape"))

    def read(self, name: str) -> str:
        return self.store.read(self.bucket, f"{self.prefix}{name}").decode()

    def data(self) -> dict[str, str]:
        """Return all objects under data/."""
        start = f"{self.prefix}data/"
        keys = self.store.keys(self.bucket, start)
        return {key.removeprefix(start): self.store.read(self.bucket, key).decode() for key in keys}


@pytest.fixture(scope="module")
def shared_bucket(store: Store) -> Iterator[str]:
    name = store.new_bucket()
    yield name
    store.delete_bucket(name)


@pytest.fixture
def lake(store: Store, shared_bucket: str, monkeypatch: pytest.MonkeyPatch) -> BucketLake:
    """A lake in a folder of a bucket that contains other lakes too."""
    use_environment(monkeypatch, store.url)
    return BucketLake(store, shared_bucket, f"lakes/{uuid.uuid4().hex}")


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return photos(tmp_path / "first", "Kiwi/1.jpg", "Kiwi/2.JPEG", ODD)


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return photos(tmp_path / "second", "Kiwi/1.jpg", "Lime/1.jpg")


def test_missing_bucket_is_created(store: Store, monkeypatch: pytest.MonkeyPatch, first: Path) -> None:
    use_environment(monkeypatch, store.url)
    lake = BucketLake(store, f"new-{uuid.uuid4().hex}", "")
    try:
        for number in (3, 0):
            assert lake.load(first).added == number
        keys = {*(f"data/{name}" for name in ("Kiwi/1.jpg", "Kiwi/2.JPEG", ODD)), LOADED_IMAGES_FILE}
        assert store.keys(lake.bucket) == keys
    finally:
        store.delete_bucket(lake.bucket)


def test_bucket_mirrors_each_state_of_the_folder(
    first: Path, second: Path, lake: BucketLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first / "Kiwi" / "notes.txt").write_text("not an image")
    assert has_unloaded_files(ImageBucket(lake.root)) is False
    lake.put("results/part-0", "rows")
    assert lake.load(first) == LoadResult(images=3, added=3, removed=0, kept=0)
    assert json.loads(lake.data()[NOT_LOADED_FILE])["skipped_by_extension"] == [{"extension": ".txt", "files": 1}]
    (first / "Kiwi" / "notes.txt").unlink()
    assert lake.load(first) == LoadResult(images=3, added=0, removed=0, kept=0)
    assert lake.data() == {name: f"photo first/{name}" for name in ("Kiwi/1.jpg", "Kiwi/2.JPEG", ODD)}
    assert set(json.loads(lake.read(LOADED_IMAGES_FILE))) == set(lake.data())
    assert has_unloaded_files(ImageBucket(lake.root)) is False

    with monkeypatch.context() as patched:
        patched.setattr(ImageBucket, "_upload", lambda *_: pytest.fail("an image was uploaded again"))
        assert lake.load(first) == LoadResult(images=3, added=0, removed=0, kept=0)

    (first / ODD).write_text("retaken")
    assert lake.load(first) == LoadResult(images=3, added=1, removed=0, kept=0)
    assert lake.data()[ODD] == "retaken"

    (first / ODD).unlink()
    assert lake.load(first) == LoadResult(images=2, added=0, removed=1, kept=0)
    assert set(lake.data()) == {"Kiwi/1.jpg", "Kiwi/2.JPEG"}

    assert lake.load(second) == LoadResult(images=2, added=2, removed=1, kept=0)
    assert lake.data() == SECOND
    assert (first / "Kiwi" / "1.jpg").read_text() == "photo first/Kiwi/1.jpg", "the source never changes"
    lake.put("data/Kiwi/mine.jpg", "mine")
    assert has_unloaded_files(ImageBucket(lake.root)) is True


def test_foreign_objects_are_never_changed_or_deleted(first: Path, second: Path, lake: BucketLake) -> None:
    """One of them is equal to an image: it may be the only copy by the time that another folder is loaded."""
    foreign = {"Kiwi/mine.jpg": "mine", "Kiwi/.hidden": "mine", ODD: f"photo first/{ODD}"}
    for name, text in foreign.items():
        lake.put(f"data/{name}", text)
    lake.put("results/part-0", "rows")
    for folder in (first, second, first, second):
        lake.load(folder)
        assert foreign.items() <= lake.data().items()
    assert lake.data() == foreign | SECOND
    assert lake.read("results/part-0") == "rows"


def test_foreign_object_with_the_name_of_an_image_is_refused_before_any_change(first: Path, lake: BucketLake) -> None:
    lake.put("data/Kiwi/2.JPEG", "mine")
    with pytest.raises(ImagesError, match=rf"{lake.root}/data/Kiwi/2\.JPEG exists, was not loaded by this command"):
        lake.load(first)
    assert lake.data() == {"Kiwi/2.JPEG": "mine"}


def test_loaded_object_that_others_replaced_is_kept(first: Path, second: Path, lake: BucketLake) -> None:
    lake.load(first)
    lake.put("data/Kiwi/2.JPEG", "retouched")
    assert lake.load(second) == LoadResult(images=2, added=2, removed=1, kept=1)
    assert lake.data()["Kiwi/2.JPEG"] == "retouched"
    assert lake.load(second).kept == 0
    assert lake.data()["Kiwi/2.JPEG"] == "retouched", "it is now a foreign object"


@pytest.mark.parametrize("step", ["_upload", "_delete"])
def test_killed_load_is_resumed_without_loss(
    first: Path, second: Path, lake: BucketLake, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class KilledError(BaseException):
        """Takes the place of a signal that kills the process."""

    def kill(*_: object) -> None:
        raise KilledError

    lake.put("data/Kiwi/mine.jpg", "mine")
    lake.load(first)
    with monkeypatch.context() as patched:
        patched.setattr(ImageBucket, step, kill)
        with pytest.raises(KilledError):
            lake.load(second)
    assert lake.data()["Kiwi/mine.jpg"] == "mine"
    lake.load(second)
    assert lake.data() == {"Kiwi/mine.jpg": "mine"} | SECOND


def test_marker_of_an_empty_folder_and_hidden_object_are_no_files_of_the_user(lake: BucketLake) -> None:
    lake.put("data/", "")
    lake.put("data/Kiwi/.DS_Store", "")
    lake.put("data/__MACOSX/Kiwi/1.jpg", "")
    lake.put("data/Kiwi/", "")
    assert has_unloaded_files(ImageBucket(lake.root)) is False


def test_damaged_ledger_is_named_and_nothing_is_deleted(first: Path, second: Path, lake: BucketLake) -> None:
    lake.load(first)
    for text in ("", "{", "[]", '{"Kiwi/1.jpg": 1}', "\udcff"):
        lake.put(LOADED_IMAGES_FILE, text)
        with pytest.raises(ImagesError, match=rf"{LOADED_IMAGES_FILE} next to {lake.root}/data is damaged .*delete it"):
            lake.load(second)
        assert len(lake.data()) == 3, text


def test_unreadable_images_and_links_that_loop_are_left_out_and_recorded(first: Path, lake: BucketLake) -> None:
    targets = {"gone.jpg": "none", "loop.jpg": "loop.jpg", "through.jpg": "1.jpg/x", "null.jpg": "/dev/null"}
    if Path("/proc/self/mem").exists():  # a file whose first byte no process can read
        targets["mem.jpg"] = "/proc/self/mem"
    for name, target in targets.items():
        (first / "Kiwi" / name).symlink_to(target)
    os.mkfifo(first / "Kiwi" / "pipe.jpg")
    result = lake.load(first)
    assert result.images == len(lake.data()) - 1 == 3
    record = json.loads(lake.data()[NOT_LOADED_FILE])
    assert result.left_out == record
    assert record["unreadable"] == len(targets) + 1
    assert record["first_unreadable"][0] == f"{first}/Kiwi/gone.jpg (No such file or directory)"
    assert describe(record)[-1].endswith(record["first_unreadable"][0])
    for name in (*targets, "pipe.jpg"):
        (first / "Kiwi" / name).unlink()
    assert lake.load(first).left_out is None
    assert NOT_LOADED_FILE not in lake.data()


def test_refused_deletion_is_reported_and_done_by_the_next_load(
    first: Path, second: Path, store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, store.url)
    lake = BucketLake(store, lake_bucket, "")
    lake.load(first)
    store.deny_delete(lake.bucket)
    with pytest.raises(ImagesError, match=rf"{lake.root}/data: .*AccessDenied.*DeleteObject operation"):
        lake.load(second)
    assert ODD in lake.data()
    store.allow(lake.bucket, lambda: store.delete_nothing(lake.bucket))
    assert lake.load(second).removed == 2
    assert set(lake.data()) == set(SECOND)


def test_unreachable_store_is_reported_with_the_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    use_environment(monkeypatch, "http://127.0.0.1:1")
    with pytest.raises(ImagesError, match="the bucket fruits of s3://fruits cannot be used: Could not connect"):
        ImageBucket("s3://fruits")


names = st.sampled_from(["Kiwi/1.jpg", "Kiwi/2.jpg", "Lime/1.jpg", "Lime/deep/1.jpg", "a b/é#%.jpg"])


# The examples share the bucket on purpose: each has its own folder in it.
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sets(names, min_size=1), min_size=1, max_size=3), st.sets(names))
def test_lake_always_has_exactly_the_last_folder_and_the_foreign_objects(
    tmp_path: Path,
    store: Store,
    shared_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    folders: list[set[str]],
    foreign: set[str],
) -> None:
    use_environment(monkeypatch, store.url)
    lake = BucketLake(store, shared_bucket, uuid.uuid4().hex)
    for name in foreign:
        lake.put(f"data/{name}.mine.jpg", "mine")
    for number, wanted in enumerate(folders):
        shutil.rmtree(tmp_path / str(number), ignore_errors=True)
        lake.load(photos(tmp_path / str(number), *wanted))
    expected = {name: f"photo {len(folders) - 1}/{name}" for name in folders[-1]}
    assert lake.data() == expected | {f"{name}.mine.jpg": "mine" for name in foreign}
