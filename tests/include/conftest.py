"""Stores that speak S3 on loopback, for what folders cannot show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from tests.include.s3_store import Store

BUCKET = "lake-of-the-tests"


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, as a boto3 resource; what is written with the product's own code is seen through it."""
    from airflow.sdk.io import store

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setattr(store, "_STORE_CACHE", {})  # its clients have other endpoints
    found = boto3.resource("s3", endpoint_url=s3_server, region_name="eu-west-3").Bucket(BUCKET)
    found.create(CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    yield found
    found.objects.delete()
    found.delete()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """SeaweedFS, which checks signatures and permissions; the other store takes any keys."""
    store = Store(tmp_path_factory.mktemp("store"))
    try:
        yield store
    finally:
        store.process.stop()


@pytest.fixture
def lake_bucket(store: Store) -> Iterator[str]:
    """The name of a bucket in that store, empty and of this test alone."""
    name = store.new_bucket()
    yield name
    store.delete_bucket(name)  # each holds some GB of the disk for what may still come
