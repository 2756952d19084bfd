"""A lake in a folder and on SeaweedFS: what the tests of the storage layer run on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3_store import Store, use_environment


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of an empty folder, on this machine or in a bucket of SeaweedFS."""
    if request.param == "folder":
        return f"file://{tmp_path}/lake é"
    store: Store = request.getfixturevalue("store")
    use_environment(monkeypatch, store.url)
    return f"s3://{request.getfixturevalue('lake_bucket')}/lake é"
