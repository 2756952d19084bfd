"""A lake whose days are run by the tasks and the jobs themselves, in this process, on tiny images without a model."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.decomposition import PCA

from include.lake import verification
from include.lake.publication import find_previous
from include.settings.parameters import RunParams
from spark_jobs.featurize import extraction, segments
from spark_jobs.featurize import job as featurize_job
from spark_jobs.images import denylist
from spark_jobs.images.rejects import Reject
from spark_jobs.insights import thumbnails
from spark_jobs.lake import storage
from spark_jobs.lake.object_store import opened_by
from spark_jobs.model import mobilenet
from spark_jobs.runtime import context
from tests.end_to_end.kills import writer
from tests.include.lake.places import Folder, Place
from tests.include.run_records import run_record

SLUGS = [f"202611{day}T120000Z-aaaaaaaa" for day in range(10, 30)]


def image(number: int) -> bytes:
    return f"image {number}".encode()


def _pictures(args: Any, files: Any, _program: Any) -> Iterator[Any]:
    denied = denylist.read(args.denylist)
    scheme = args.images.partition("://")[0]
    for path, _ in files:
        data = storage.read_bytes(f"{scheme}://{path}")
        bad = Reject("not_an_image", f"{path} is no image") if data == writer.BAD else None
        yield denied.check(data) or bad or data


def thumbnail(data: bytes) -> bytes:
    return b"thumbnail of " + data


def _read_share(share: Any, *_: Any) -> list[thumbnails.Read]:
    contents = [storage.read_bytes(wanted.path) for wanted in share]
    return [
        thumbnails.Read(None if data == writer.BAD else thumbnail(data), hashlib.sha256(data).hexdigest())
        for data in contents
    ]


class Days:
    """Runs days of a lake.

    Parameters
    ----------
    place : Place
        The lake.
    patch : MonkeyPatch
        Makes the code of this process small and fast until the end of the test.
    """

    def __init__(self, place: Place, patch: pytest.MonkeyPatch) -> None:
        self.place, self.lake, self.conn = place, place.lake, place.conn
        self._next = 0
        for module in (featurize_job, verification):
            patch.setattr(module, "FEATURE_DIMENSIONS", writer.DIMENSIONS)
        for owner, name in ((segments, "ROWS_PER_SEGMENT"), (mobilenet, "read"), (context, "start")):
            patch.setattr(owner, name, getattr(owner, name))
        patch.setattr(extraction, "_pictures", extraction._pictures)
        patch.setattr(thumbnails, "_read_share", thumbnails._read_share)
        writer.prepare(decodes=False)
        patch.setattr(extraction, "_pictures", _pictures)
        patch.setattr(thumbnails, "_read_share", _read_share)
        patch.setattr(writer, "build_bundle", functools.cache(writer.build_bundle))
        for name, value in {
            "FRUITS_LAKE": self.lake.root,
            "FRUITS_AWS_CONN_ID": self.conn or "none",
            "FRUITS_PROFILE": "local",
            "FRUITS_KEPT_STATES": "7",
        }.items():
            patch.setenv(name, value)

    def keep(self) -> None:
        """Keep a copy of a lake in a folder, for :meth:`resume`."""
        if isinstance(self.place, Folder):
            shutil.copytree(self.place.root, self._copy(self.place.root))

    def resume(self, next_: int) -> bool:
        """Replace the lake by the copy, whose next day is given; return whether there is one."""
        if not isinstance(self.place, Folder) or not self._copy(self.place.root).exists():
            return False
        shutil.rmtree(self.place.root)
        shutil.copytree(self._copy(self.place.root), self.place.root)
        self._next = next_
        return True

    @staticmethod
    def _copy(root: Path) -> Path:
        return root.with_name("kept")

    def write(self, **photos: bytes) -> None:
        """Write photos; the name ``a_1`` is that of ``data/a/1.jpg``."""
        for name, data in photos.items():
            self.place.write(photo(name), data)

    def begin(self, **params: Any) -> tuple[dict[str, Any], RunParams, dict[str, Any]]:
        """Find the changes of a new day; return what its later stages need."""
        slug = SLUGS[self._next]
        self._next += 1
        small = replace(RunParams(), max_reject_ratio=0.5, n_components=2, variance_target=None, **params)
        previous = find_previous(self.lake, slug, writer.MODEL_DIGEST, self.conn)
        record = run_record(
            lake=self.lake.root,
            images=self.lake.data("data"),
            slug=slug,
            params=vars(small),
            run_id=f"run {slug}",
            previous=previous,
        )
        done: dict[str, Any] = {}
        self.proceed(record, small, done, "find_changes")
        return record, small, done

    def proceed(self, record: dict[str, Any], params: RunParams, done: dict[str, Any], *stages: str) -> None:
        with opened_by(storage_of(self.place)):
            for stage in stages:
                done[stage] = writer._run_stage(stage, self.lake, record, params, done, writer.features_of)

    def run(self, **params: Any) -> Any:
        """Run a day; return the new pointer, or None if there was nothing to do."""
        record, small, done = self.begin(**params)
        self.proceed(record, small, done, *writer.STAGES[1:])
        return done["publish_results"]


def storage_of(place: Place) -> Any:
    """Return what opens the buckets of a lake."""
    from include.lake.objects import LakePath

    return LakePath(place.lake.root, place.conn).buckets


def photo(name: str) -> str:
    label, _, number = name.rpartition("_")
    return f"data/{label}/{number}.jpg"


def table(place: Place, path: str) -> pd.DataFrame:
    return pq.read_table(io.BytesIO(place.read(path))).to_pandas()


def all_bytes(place: Place) -> dict[str, bytes]:
    """Return every version of every file by a name of its own, as someone sees them who has the keys of the store."""
    if isinstance(place, Folder):
        return {name: place.read(name) for name in place.names()}
    found = {}
    for page in place.store.s3.get_paginator("list_object_versions").paginate(Bucket=place.name):
        for item in page.get("Versions", []):
            version = {"Bucket": place.name, "Key": item["Key"], "VersionId": item["VersionId"]}
            found[f"{item['Key']} {item['VersionId']}"] = place.store.s3.get_object(**version)["Body"].read()
        found |= {f"{item['Key']} deleted {item['VersionId']}": b"" for item in page.get("DeleteMarkers", [])}
    return found


def uncompressed(data: bytes) -> bytes:
    """Return the rows of a Parquet file as text, and other files as they are."""
    if data[:4] != b"PAR1":
        return data
    rows = pq.read_table(io.BytesIO(data))
    return repr(rows.schema.names).encode() + repr(rows.to_pylist()).encode()


def states(place: Place) -> dict[int, dict[str, Any]]:
    """Return the manifests of the states from the published one back, by number."""
    found: dict[int, dict[str, Any]] = {}
    path = json.loads(place.read("current.json"))["manifest"]
    while path and path in place.names():
        manifest = json.loads(place.read(path))
        found[manifest["state"]] = manifest
        path = manifest["previous_manifest"]
    return found


def pictures(place: Place, run: str) -> dict[str, bytes | None]:
    """Return the photos that the report of a run shows, by their paths."""
    record = json.loads(place.read(f"runs/{run}/pca/insights/insights.json"))
    return {
        photo["path"].removeprefix(f"{place.lake.root}/"): photo["thumbnail"] and base64.b64decode(photo["thumbnail"])
        for photo in record["photos"]
    }


def lists(place: Place, run: str) -> dict[str, list[str]]:
    """Return the paths of the photos in the lists beside the report of a run."""
    names = ("outliers", "duplicates", "unlike_label")
    frames = {name: pd.read_csv(io.BytesIO(place.read(f"runs/{run}/pca/insights/{name}.csv"))) for name in names}
    return {
        name: [path.removeprefix(f"{place.lake.root}/") for path in frame["path"]] for name, frame in frames.items()
    }


def features_of_state(place: Place, manifest: dict[str, Any]) -> dict[str, bytes]:
    """Return the vectors of a state by the paths of its photos."""
    ids = [segment["id"] for segment in manifest["segments"] if segment["features"]]
    frame = pd.concat(table(place, f"segments/{id_}/features.parquet") for id_ in ids)
    assert frame["path"].is_unique
    paths = [path.removeprefix(f"{place.lake.root}/") for path in frame["path"]]
    return {path: vector.tobytes() for path, vector in zip(paths, frame["features"], strict=True)}


def check_state(place: Place, manifest: dict[str, Any], photos: dict[str, bytes]) -> None:
    """Compare all files of a state with those of exactly these photos, computed by the test alone."""
    good = {path: data for path, data in photos.items() if data != writer.BAD}
    expected = {path: writer.features_of(data) for path, data in good.items()}
    assert features_of_state(place, manifest) == {path: vector.tobytes() for path, vector in expected.items()}
    run = f"runs/{manifest['run']}"
    root = f"{place.lake.root}/"
    assert [path.removeprefix(root) for path in table(place, f"{run}/listing.parquet")["path"]] == sorted(photos)
    rejects = table(place, f"{run}/rejects/part-00000.parquet")
    assert {path.removeprefix(root) for path in rejects["path"]} == set(photos) - set(good)
    with np.load(io.BytesIO(place.read(f"{run}/pca/model.npz"))) as file:
        model = {name: file[name] for name in file.files}
    matrix = np.array([expected[path] for path in good], np.float64)
    np.testing.assert_allclose(model["mean_"], matrix.mean(axis=0), rtol=1e-12, err_msg="the fit has erased photos")
    reference = PCA(2, svd_solver="full").fit(matrix)
    np.testing.assert_allclose(np.abs(model["components_"][:2] @ reference.components_.T), np.eye(2), atol=1e-9)
    shown = pictures(place, manifest["run"])
    assert shown == {path: None if data == writer.BAD else thumbnail(data) for path, data in photos.items()}
    page = place.read(f"{run}/report.html").decode()
    assert all(base64.b64encode(data).decode() in page for data in shown.values() if data)
    assert set(lists(place, manifest["run"])["outliers"]) == set(good)
    scores = table(place, f"{run}/pca/scores/part-00000.parquet")
    assert {path.removeprefix(root) for path in scores["path"]} == set(good)
    text = pd.read_csv(io.BytesIO(place.read(f"{run}/pca/pca_features.csv")), float_precision="round_trip")
    np.testing.assert_array_equal(text[["F 1", "F 2"]].to_numpy(), np.stack(scores["components"]))
    assert manifest["featurize"]["features"] == manifest["pca"]["images"] == len(good)
    assert manifest["featurize"]["rejects"] == len(photos) - len(good)
