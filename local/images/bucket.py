"""The lake's ``data/`` in a bucket: images are uploaded, many at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.images.loading import LEDGER, Identity, ImagesError

UPLOADS = 16
"""Uploads in flight."""


class ImageBucket:
    """The ``data/`` prefix of a lake on S3; the bucket is made where it is missing.

    Address, keys and region of the store are boto3's own: the environment's.

    Parameters
    ----------
    lake : str
        The lake's root, ``s3://bucket[/folder]``.

    Raises
    ------
    ImagesError
        When the store cannot be reached, or refuses.
    """

    def __init__(self, lake: str) -> None:
        self._bucket, _, folder = lake.removeprefix("s3://").rstrip("/").partition("/")
        self._root = f"{folder}/" if folder else ""
        # A session of its own: the default one keeps the keys that the environment had when it was first used.
        self._s3 = boto3.Session().client(
            "s3", config=Config(max_pool_connections=UPLOADS, retries={"mode": "standard"})
        )
        self.shown = f"s3://{self._bucket}/{self._root}data"
        try:
            self._make_bucket()
        except (BotoCoreError, ClientError) as error:
            raise ImagesError(f"the bucket {self._bucket} of {lake} cannot be used: {error}") from error

    def _make_bucket(self) -> None:
        try:
            self._s3.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in {"404", "NoSuchBucket"}:
                raise
            region = {"LocationConstraint": self._s3.meta.region_name}
            self._s3.create_bucket(Bucket=self._bucket, CreateBucketConfiguration=region)

    @cached_property
    def _there(self) -> dict[str, Identity]:
        """Identity of every object under ``data/``: one listing instead of a request for each."""
        start = f"{self._root}data/"
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start)
        with self._telling():
            return {
                item["Key"].removeprefix(start): [item["Size"], item["ETag"].strip('"')]
                for page in pages
                for item in page.get("Contents", [])
                if not item["Key"].endswith("/")
            }

    def identify(self, source: Path) -> Identity:
        """Return size and MD5: what S3 tells of an object that was put in one request, in every listing."""
        data = _read(source)
        return [len(data), hashlib.md5(data, usedforsecurity=False).hexdigest()]

    def identity(self, name: str) -> Identity | None:
        """Return the identity of what is there, None when nothing is."""
        return self._there.get(name)

    def names(self) -> Iterator[str]:
        """Yield the names of all objects that are there."""
        yield from self._there

    def check(self, folder: Path, found: Mapping[str, Path]) -> None:
        """Refuse images that cannot be read.

        Raises
        ------
        ImagesError
            With the reason.
        """
        for source in found.values():
            if not source.is_file():
                raise ImagesError(f"{source} is not a file that can be uploaded; take it out of IMAGES={folder}")

    def bring(self, images: Sequence[tuple[Path, str]]) -> None:
        """Upload the images.

        Raises
        ------
        ImagesError
            When an upload fails; those that came before it stay, and the ledger knows them.
        """
        self._each(self._upload, images)

    def _upload(self, image: tuple[Path, str]) -> None:
        source, name = image
        self._s3.put_object(Bucket=self._bucket, Key=f"{self._root}data/{name}", Body=_read(source))

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects.

        Raises
        ------
        ImagesError
            When the store refuses.
        """
        self._each(self._delete, names)

    def _delete(self, name: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=f"{self._root}data/{name}")

    def read_ledger(self) -> str | None:
        """Return the ledger's text, None when there is none."""
        with self._telling():
            try:
                body = self._s3.get_object(Bucket=self._bucket, Key=f"{self._root}{LEDGER}")["Body"]
            except self._s3.exceptions.NoSuchKey:
                return None
            return bytes(body.read()).decode("utf-8", "replace")

    def write_ledger(self, text: str) -> None:
        """Put the ledger there in one step."""
        with self._telling():
            self._s3.put_object(Bucket=self._bucket, Key=f"{self._root}{LEDGER}", Body=text.encode())

    def _each(self, work: Any, items: Sequence[Any]) -> None:
        with self._telling(), ThreadPoolExecutor(UPLOADS) as pool:
            for _ in pool.map(work, items):
                pass

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell what the store refuses as an ImagesError that names the bucket."""
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise ImagesError(f"{self.shown}: {error}") from error


def _read(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise ImagesError(f"{source} cannot be read: {error.strerror}") from error
