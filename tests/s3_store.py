"""SeaweedFS as the S3 store of the tests, with identities and helpers."""

from __future__ import annotations

import contextlib
import functools
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local.s3.process import StoreProcess

REGION = "eu-west-3"
ACTIONS = {
    "local": ["Admin", "Read", "List", "Tagging", "Write"],
    "reader": ["Read", "List"],
    "worker": ["Read", "List", "Write", "Tagging"],
}
"""Identities and their permissions; the access key and the secret key of an identity are its name."""


class Store:
    """A running store; each test uses a new bucket."""

    def __init__(self, folder: Path) -> None:
        users = [
            {"name": name, "credentials": [{"accessKey": name, "secretKey": name}], "actions": actions}
            for name, actions in ACTIONS.items()
        ]
        self._folder = folder
        (folder / "identities.json").write_text(json.dumps({"identities": users}))
        self.start()
        self.url = self.process.url
        self.s3 = client(self.url, "local")

    def start(self, port: int = 0) -> None:
        """Start the store, or restart it with the data that it has stored."""
        self.process = StoreProcess(self._folder / "data", port=port, identities=self._folder / "identities.json")

    def close(self) -> None:
        self.process.stop()

    def new_bucket(self) -> str:
        """Create a bucket and return its name."""
        name = f"lake-{uuid.uuid4().hex}"
        self.s3.create_bucket(Bucket=name)
        return name

    def delete_bucket(self, name: str) -> None:
        """Delete a bucket and its objects, whatever its policy is."""
        with contextlib.suppress(ClientError):  # most have no policy
            self.s3.delete_bucket_policy(Bucket=name)
        await_true(lambda: not is_refused(lambda: self.s3.delete_bucket(Bucket=name)), f"{name} is deleted")

    def put(self, bucket: str, key: str, data: bytes = b"x") -> None:
        self.s3.put_object(Bucket=bucket, Key=key, Body=data)

    def read(self, bucket: str, key: str) -> bytes:
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def keys(self, bucket: str, prefix: str = "") -> set[str]:
        """Return the keys of all objects except markers of folders."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {item["Key"] for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/")}

    def deny(self, bucket: str, action: str, attempt: Callable[[], Any]) -> None:
        """Deny an action to everyone by the bucket's policy, and wait until an attempt is refused."""
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": [action],
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
        self.s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        await_true(lambda: is_refused(attempt), f"{action} is refused")

    def deny_delete(self, bucket: str) -> None:
        self.deny(bucket, "s3:DeleteObject", lambda: self.delete_nothing(bucket))

    def delete_nothing(self, bucket: str) -> None:
        self.s3.delete_object(Bucket=bucket, Key="nothing")

    def allow(self, bucket: str, attempt: Callable[[], Any]) -> None:
        """Delete a bucket's policy, and wait until an attempt is allowed."""
        self.s3.delete_bucket_policy(Bucket=bucket)
        await_true(lambda: not is_refused(attempt), "it is allowed again")

    def connection(self, monkeypatch: pytest.MonkeyPatch, name: str, secret: str | None = None) -> str:
        """Create an Airflow connection with the keys of an identity; return its id."""
        return connection(monkeypatch, self.url, name, secret)


def client(url: str, name: str, secret: str | None = None) -> Any:
    """Return a client with the keys of an identity."""
    keys = {"aws_access_key_id": name, "aws_secret_access_key": secret or name}
    return boto3.client("s3", endpoint_url=url, region_name=REGION, **keys)


def connection(
    monkeypatch: pytest.MonkeyPatch, url: str, name: str, secret: str | None = None, *, conn_id: str | None = None
) -> str:
    """Create or replace an Airflow connection; the id is new by default, since a process caches its clients."""
    conn_id = conn_id or f"aws_{uuid.uuid4().hex}"
    record = {
        "conn_type": "aws",
        "login": name,
        "password": secret or name,
        "extra": {"endpoint_url": url, "region_name": REGION},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(record))
    return conn_id


@functools.cache
def session_of(url: str, name: str) -> boto3.Session:
    """Return the session for a store and an identity; it reads the keys from the environment at its first use."""
    return boto3.Session()


def use_environment(monkeypatch: pytest.MonkeyPatch, url: str, name: str = "local") -> None:
    """Configure boto3 for a store by environment variables, as a local run does."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session_of(url, name))  # a session caches the keys that it has read
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", name)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", name)


def is_refused(attempt: Callable[[], Any]) -> bool:
    try:
        attempt()
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return True
    return False


def await_true(condition: Callable[[], bool], what: str) -> None:
    """Wait until the store applies a policy; the limit only turns a hang into a failure."""
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"did not happen within 30 s: {what}")
