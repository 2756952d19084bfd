"""A lake of some days: in a folder, and in a bucket that keeps old versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.include.erasure.days import Days
from tests.include.lake.places import Bucket, Folder, Place

both_places = pytest.mark.parametrize("place", ["folder", "bucket"], indirect=True)

folder_and_soak_in_a_bucket = pytest.mark.parametrize(
    "place", ["folder", pytest.param("bucket", marks=pytest.mark.soak)], indirect=True
)


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the lake of each test, always the same: a lake that is kept for later tests has its URI in it."""
    return tmp_path_factory.mktemp("lakes")


@pytest.fixture
def place(request: pytest.FixtureRequest, lakes: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty lake: in a folder, if the test does not ask for a bucket."""
    if getattr(request, "param", "folder") == "folder":
        shutil.rmtree(lakes / "lake é#%20+", ignore_errors=True)
        (lakes / "lake é#%20+").mkdir()
        return Folder(lakes / "lake é#%20+")
    store, name = request.getfixturevalue("store"), request.getfixturevalue("lake_bucket")
    store.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return Bucket(store, name, store.connection(monkeypatch, "worker"))


@pytest.fixture
def days(place: Place, monkeypatch: pytest.MonkeyPatch) -> Days:
    """What runs days of the lake."""
    return Days(place, monkeypatch)
