"""A local S3 store with photos, for measurements."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.inputs import PATTERN
from local.environment import local_environment
from local.images.loading import find_images
from local.s3.process import StoreProcess

BUCKET = "photos"
REQUESTS = 16
"""Number of concurrent requests."""


@dataclass(frozen=True)
class ObjectStore:
    """A running store with one bucket.

    Attributes
    ----------
    url : str
        URL of the store.
    """

    url: str

    def upload(self, folder: Path, prefix: str) -> list[str]:
        """Upload a folder's photos as ``<prefix>/<label>/<name>`` and return the keys."""
        s3 = client(self.url)
        photos = {f"{prefix}/{name}": path for name, path in find_images(folder, PATTERN).items()}
        _map_concurrently(lambda key: s3.put_object(Bucket=BUCKET, Key=key, Body=photos[key].read_bytes()), photos)
        return list(photos)


def environment(url: str, work: Path) -> dict[str, str]:
    """Return the AWS environment variables for a store at this URL; other AWS endpoints are unreachable."""
    clean = local_environment(airflow_home=work, endpoint_url="http://127.0.0.1:1", lake="", store_url=url, environ={})
    return {name: value for name, value in clean.items() if name.startswith("AWS_")}


def client(url: str) -> Any:
    """Return an S3 client with a connection for each concurrent request."""
    import boto3
    from botocore.config import Config

    settings = environment(url, Path())
    return boto3.Session().client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        region_name=settings["AWS_REGION"],
        config=Config(max_pool_connections=REQUESTS, s3={"addressing_style": "path"}),
    )


def read_all(url: str, keys: Iterable[str]) -> int:
    """Read objects from the store, or through a proxy, and return the number of bytes."""
    s3 = client(url)
    return sum(_map_concurrently(lambda key: len(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()), keys))


def _map_concurrently(work: Callable[[str], Any], keys: Iterable[str] | Mapping[str, Any]) -> list[Any]:
    with ThreadPoolExecutor(REQUESTS) as pool:
        return list(pool.map(work, keys))


@contextmanager
def started(work: Path) -> Iterator[ObjectStore]:
    """Start a store that keeps its data in a subfolder of ``work``, and create an empty bucket."""
    settings = environment("http://127.0.0.1:1", work)
    with StoreProcess(work / "store", environment={**os.environ, **settings}) as process:
        client(process.url).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": settings["AWS_REGION"]}
        )
        yield ObjectStore(process.url)
