"""Listing on an S3 store: keys come out as they are."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from spark_jobs.errors import JobError
from spark_jobs.images import changes
from spark_jobs.lake.image_walks import walk_through
from spark_jobs.records import Changes, Fingerprint, LeftOut
from spark_jobs.walk import Image, Walk

KEYS = [
    "data/50 % off/%20.jpg",
    "data/_under/1.jpg",
    "data/a b/1.jpg",
    "data/a#b/c+d?.jpg",
    "data/a-b/1.jpg",
    "data/a/.x.jpg",
    "data/a/_x.jpg",
    "data/a/empty.jpg",
    "data/pêche/é.JPG",
    "data/x.jpg/",  # a folder, of which the key that follows makes one
    "data/x.jpg/y.jpg",
]

FILES = [key for key in KEYS if not key.endswith("/")]


@dataclass(frozen=True)
class Store:
    client: Any
    bucket: str

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A loopback store with the keys, and others that are not images."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-3",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    bucket = f"photos-{uuid.uuid4().hex[:12]}"  # moto keeps its buckets as long as the process lives
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    for key in [*FILES, "data/a/notes.txt", "data/an empty folder/", "other/1.jpg"]:
        client.put_object(Bucket=bucket, Key=key, Body=b"" if "empty" in key else key.encode())
    yield Store(client, bucket)
    server.stop()


def walked(images: str, *, include_hidden: bool = False) -> tuple[list[Image], LeftOut]:
    """Return the images of a folder, and what is left out."""

    def use(walk: Walk) -> tuple[list[Image], LeftOut]:
        return list(walk.images()), walk.left_out.record("there", "*.jpg")

    return walk_through(images, "*.jpg", use, include_hidden=include_hidden)


def test_every_key_is_listed_as_it_is(store: Store) -> None:
    rows, _ = walked(store.uri("data"), include_hidden=True)
    assert [f"s3://{row.path}" for row in rows] == [store.uri(key) for key in KEYS]
    assert [row.label for row in rows] == [key.rstrip("/").split("/")[-2] for key in KEYS]
    assert [row.size for row in rows] == [0 if key.endswith(("/", "empty.jpg")) else len(key.encode()) for key in KEYS]


def find(store: Store, key: str) -> Changes:
    fingerprint: Fingerprint = {"digest": "f" * 64, "inputs": {}}
    return changes.find(changes.Folder(store.uri(key), "*.jpg"), store.uri("run"), fingerprint, None)


def test_the_lists_are_written_to_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr(changes, "ROWS_READ", 4)
    found = find(store, "data")
    assert found["listed"] == len(KEYS) - 1, "one is hidden"
    (left_out,) = found["left_out"]
    assert (left_out["skipped"], left_out["hidden"]) == (1, 1)
    for name in ("listing", "work"):
        written = store.client.get_object(Bucket=store.bucket, Key=f"run/{name}.parquet")["Body"].read()
        with pq.ParquetFile(io.BytesIO(written)) as file:
            assert file.num_row_groups == 3
    etags = {row["path"]: row["etag"] for row in pq.read_table(io.BytesIO(written)).to_pylist()}
    for key in FILES:
        if "/." not in key:
            assert etags[store.uri(key)] == store.client.head_object(Bucket=store.bucket, Key=key)["ETag"].strip('"')


def test_a_key_with_two_slashes_is_a_clear_error_and_is_not_lost(store: Store) -> None:
    store.client.put_object(Bucket=store.bucket, Key="data/a//1.jpg", Body=b"1")
    with pytest.raises(JobError, match="/data/a holds names that begin with a slash"):
        walked(store.uri("data"))


def test_a_missing_prefix_is_a_clear_error(store: Store) -> None:
    with pytest.raises(JobError, match="/none does not exist"):
        find(store, "none")


def test_hidden_and_system_folders_of_a_bucket_are_counted_and_not_listed(store: Store) -> None:
    hidden = ["__MACOSX/a/._1.jpg", "__MACOSX/a/._2.jpg", "a/@eaDir/1.jpg/x.jpg", "a/Thumbs.db", "@eaDir//1.jpg"]
    for key in [*(f"macos/{name}" for name in hidden), "macos/a/1.jpg", "macos/b/1.png", "macos/.not_loaded.json"]:
        store.client.put_object(Bucket=store.bucket, Key=key, Body=b"1")
    rows, record = walked(store.uri("macos"))
    assert [row.path for row in rows] == [f"{store.bucket}/macos/a/1.jpg"]
    assert (record["hidden"], record["skipped"], record["lost_labels"]) == (len(hidden), 1, ["b"])


def test_a_name_with_control_characters_is_listed_too(store: Store) -> None:
    """object_store cannot address it, so the folder is listed by pyarrow."""
    store.client.put_object(Bucket=store.bucket, Key="data/new\tline.jpg", Body=b"12345")
    rows, record = walked(store.uri("data"))
    expected = sorted([key for key in KEYS if "/." not in key] + ["data/new\tline.jpg"])
    assert [row.path for row in rows] == [f"{store.bucket}/{key}" for key in expected]
    assert (record["skipped"], record["hidden"]) == (1, 1)


def test_an_empty_image_and_the_marker_of_a_folder_are_told_apart(store: Store) -> None:
    for key in ("odd/empty.jpg", "odd/folder.jpg/", "odd/Kiwi/", "odd/Kiwi/1.jpg"):
        store.client.put_object(Bucket=store.bucket, Key=key, Body=b"")
    rows, _ = walked(store.uri("odd"))
    keys = ["odd/Kiwi/1.jpg", "odd/empty.jpg", "odd/folder.jpg/"]
    assert [row.path for row in rows] == [f"{store.bucket}/{key}" for key in keys]
