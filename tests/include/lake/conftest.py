"""A lake in a folder and in a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.include.lake.places import Bucket, Folder, Place


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty lake: in a folder, and in a bucket of SeaweedFS."""
    if request.param == "folder":
        (tmp_path / "lake é#%20+").mkdir()
        return Folder(tmp_path / "lake é#%20+")
    store, name = request.getfixturevalue("store"), request.getfixturevalue("lake_bucket")
    return Bucket(store, name, store.connection(monkeypatch, "worker"))
