"""The lake's ``data/`` in a bucket: images are uploaded in parallel."""

from __future__ import annotations

import errno
import hashlib
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.images.loading import Destination, Identity, ImagesError
from spark_jobs.args import LOADED_IMAGES_FILE, NOT_LOADED_FILE, is_hidden

PARALLEL_REQUESTS = 16

Item = TypeVar("Item")


class ImageBucket(Destination):
    """The ``data/`` prefix of a lake on S3; a missing bucket is created.

    boto3 reads the store's address, keys and region from the environment.

    Parameters
    ----------
    lake : str
        The lake's root, ``s3://bucket[/folder]``.

    Raises
    ------
    ImagesError
        If the store cannot be reached, or refuses a request.
    """

    def __init__(self, lake: str) -> None:
        self._bucket, _, folder = lake.removeprefix("s3://").rstrip("/").partition("/")
        self._root = f"{folder}/" if folder else ""
        # A new session: the default session caches the keys that the environment had at its first use.
        self._s3 = boto3.Session().client(
            "s3", config=Config(max_pool_connections=PARALLEL_REQUESTS, retries={"mode": "standard"})
        )
        self.location = f"s3://{self._bucket}/{self._root}data"
        with self._translated_errors(f"the bucket {self._bucket} of {lake} cannot be used"):
            self._ensure_bucket()

    def _ensure_bucket(self) -> None:
        try:
            self._s3.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
                raise
            region = {"LocationConstraint": self._s3.meta.region_name}
            self._s3.create_bucket(Bucket=self._bucket, CreateBucketConfiguration=region)

    def _key(self, name: str) -> str:
        return f"{self._root}data/{name}"

    @cached_property
    def _identities(self) -> dict[str, Identity]:
        """Identity of every object under ``data/``, from one listing instead of a request per object."""
        prefix = self._key("")
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        with self._translated_errors():
            return {
                item["Key"].removeprefix(prefix): [item["Size"], item["ETag"].strip('"')]
                for page in pages
                for item in page.get("Contents", [])
                if not item["Key"].endswith("/")
            }

    def identify_source(self, source: Path) -> Identity:
        """Return size and MD5: S3 lists both for an object that was uploaded in one request.

        Raises
        ------
        OSError
            If the image is not a regular file, or cannot be read.
        """
        if not stat.S_ISREG(source.stat().st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        data = source.read_bytes()
        return [len(data), hashlib.md5(data, usedforsecurity=False).hexdigest()]

    def identify(self, name: str) -> Identity | None:
        """Return size and ETag of an object, None if it does not exist."""
        return self._identities.get(name)

    def names(self) -> Iterator[str]:
        """Yield the names of all objects, except hidden ones."""
        yield from (name for name in self._identities if not any(map(is_hidden, name.split("/"))))

    def check(self, folder: Path, images: Mapping[str, Path]) -> None:
        """Refuse nothing: in a bucket, no image is in the way of another one."""

    def add(self, images: Sequence[tuple[Path, str]]) -> None:
        """Upload images.

        Raises
        ------
        ImagesError
            If an upload fails; completed uploads stay, and the ledger contains them.
        """
        self._run_parallel(self._upload, images)

    def _upload(self, image: tuple[Path, str]) -> None:
        source, name = image
        self._s3.put_object(Bucket=self._bucket, Key=self._key(name), Body=_read(source))

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects.

        Raises
        ------
        ImagesError
            If the store refuses a request.
        """
        self._run_parallel(self._delete, names)

    def _delete(self, name: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=self._key(name))

    def write_not_loaded(self, text: str | None) -> None:
        """Replace the record of the files that were not loaded, or delete it."""
        key = self._key(NOT_LOADED_FILE)
        with self._translated_errors():
            if text is not None:
                self._s3.put_object(Bucket=self._bucket, Key=key, Body=text.encode())
            elif NOT_LOADED_FILE in self._identities:
                self._s3.delete_object(Bucket=self._bucket, Key=key)

    def read_ledger(self) -> str | None:
        """Return the text of the ledger, None if it does not exist."""
        with self._translated_errors():
            try:
                body = self._s3.get_object(Bucket=self._bucket, Key=f"{self._root}{LOADED_IMAGES_FILE}")["Body"]
            except self._s3.exceptions.NoSuchKey:
                return None
            return bytes(body.read()).decode("utf-8", "replace")

    def write_ledger(self, text: str) -> None:
        """Replace the ledger atomically."""
        with self._translated_errors():
            self._s3.put_object(Bucket=self._bucket, Key=f"{self._root}{LOADED_IMAGES_FILE}", Body=text.encode())

    def _run_parallel(self, work: Callable[[Item], None], items: Sequence[Item]) -> None:
        with self._translated_errors(), ThreadPoolExecutor(PARALLEL_REQUESTS) as pool:
            for _ in pool.map(work, items):
                pass

    @contextmanager
    def _translated_errors(self, problem: str | None = None) -> Iterator[None]:
        """Raise errors of boto3 as an ImagesError that names the problem, by default the location."""
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise ImagesError(f"{problem or self.location}: {error}") from error


def _read(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise ImagesError(f"{source} cannot be read: {error.strerror}") from error
