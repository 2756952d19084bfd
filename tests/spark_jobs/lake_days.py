"""A lake whose days run in this process: find, featurize and pca as they are, with photos of a few pixels."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from spark_jobs import fingerprint
from spark_jobs.args import FeaturizeArgs, PcaArgs
from spark_jobs.featurize import extraction, job, segments
from spark_jobs.featurize.extraction import Engine
from spark_jobs.images import changes, decoder, decoding
from spark_jobs.images.rejects import Reject
from spark_jobs.model import mobilenet
from spark_jobs.pca import job as pca_job
from spark_jobs.records import Changes, FeaturizeSummary, Segment
from spark_jobs.runtime import context
from tests.spark_jobs.in_process import Here

DIMENSIONS = 6

MODEL = mobilenet.Model("0123456789abcdef" * 4, {"source": "file", "name": "x", "sha256": "x", "seed": None}, b"")

_PROJECTION = np.random.default_rng(20261127).normal(size=(DIMENSIONS, 48)).astype(np.float32)


def features_of(pixels: decoding.Pixels) -> mobilenet.Features:
    """The features of the tests' model: linear in some of the pixels."""
    vector: mobilenet.Features = _PROJECTION @ (pixels[::56, ::56].ravel().astype(np.float32) / 255)
    return vector


def load_model(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
    return features_of


def refuse_images(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
    """A model that must not see an image."""

    def extract(_pixels: decoding.Pixels) -> mobilenet.Features:
        raise AssertionError("the model saw an image")

    return extract


def photo(seed: int) -> bytes:
    """A picture of a few pixels."""
    stream = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class Day(NamedTuple):
    """What a day's run has left."""

    run: Path
    changes: Changes
    summary: FeaturizeSummary
    live: list[Segment]


class Rows(NamedTuple):
    """The rows of a state: label and vector of the images with features, label and reason of the others."""

    features: dict[str, tuple[str, bytes]]
    rejects: dict[str, tuple[str, str]]


class Lake:
    """A folder of photos, and the runs that follow one another on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.photos: dict[str, bytes] = {}
        self.days: list[Day] = []
        self._writes = 0

    @property
    def segments(self) -> Path:
        return self.folder / "segments"

    def change(self, photos: Mapping[str, bytes | None]) -> None:
        """Write photos, or delete those that are None; a write gives a file another time."""
        for path, data in photos.items():
            file = self.folder / "data" / path
            if data is None:
                self.photos.pop(path, None)
                file.unlink(missing_ok=True)
                continue
            self.photos[path] = data
            self._writes += 1
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            os.utime(file, ns=(0, 10**18 + self._writes * 1_000))

    def published(self) -> changes.Published | None:
        """The last day's state."""
        if not self.days:
            return None
        last = self.days[-1]
        run = f"file://{last.run}"
        return changes.Published(f"{run}/listing.parquet", last.summary["fingerprint"], last.live, run=run)

    def args(self, slug: str, **options: Any) -> FeaturizeArgs:
        run = f"file://{self.folder}/runs/{slug}"
        args = FeaturizeArgs(
            images=f"file://{self.folder}/data",
            run=run,
            model="file:///model",
            changes=f"{run}/changes.json",
            segments=f"file://{self.segments}",
            max_reject_ratio=1.0,
            images_per_task=2,
        )
        return replace(args, **options)

    def find(self, args: FeaturizeArgs, published: changes.Published | None, *, full_run: bool = False) -> Changes:
        planned = fingerprint.planned(MODEL.digest, args)
        folder = changes.Folder(args.images, args.pattern)
        return changes.find(folder, args.run, planned, published, full_run=full_run)

    def run_day(
        self,
        photos: Mapping[str, bytes | None],
        *,
        engine: Engine = Engine(load_model),  # noqa: B008 (it is immutable)
        published: changes.Published | None = None,
        full_run: bool = False,
        **options: Any,
    ) -> Day:
        """Change photos, and run find and featurize; the state counts as published."""
        self.change(photos)
        args = self.args(f"day-{len(self.days)}", **options)
        found = self.find(args, published or self.published(), full_run=full_run)
        summary = job.run(Here(), args, engine=engine)  # type: ignore[arg-type]
        day = Day(local(args.run), found, summary, live_in(local(args.run)))
        self.days.append(day)
        return day

    def fit(self, day: Day) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Run pca; return the arrays of its model, and the scores by path."""
        pca_job.run(PcaArgs(f"file://{day.run}", variance_target=None, n_components=DIMENSIONS, sample_images=0))
        with np.load(day.run / "pca" / "model.npz") as file:
            model = {name: file[name] for name in file.files}
        table = pq.read_table(day.run / "pca" / "scores", partitioning=None)
        scores = map(np.array, table["components"].to_pylist())
        return model, dict(zip(table["path"].to_pylist(), scores, strict=True))

    def expected(self) -> Rows:
        """The rows of the photos that are there now, computed from each alone."""
        rows = Rows({}, {})
        for path, data in self.photos.items():
            uri, label = f"file://{self.folder}/data/{path}", path.split("/")[-2]
            outcome = decoding.decode(data, max_pixels=10**6)
            if isinstance(outcome, Reject):
                rows.rejects[uri] = label, outcome.reason
            else:
                rows.features[uri] = label, features_of(outcome).tobytes()
        return rows

    def rows(self, live: list[Segment]) -> Rows:
        """The rows of some segments, as pyarrow alone reads them; no path may be there twice."""
        features = [
            (row["path"], (row["label"], np.array(row["features"], np.float32).tobytes()))
            for segment in live
            for row in read(self.segments / segment["id"] / "features.parquet")
        ]
        rejects = [
            (row["path"], (row["label"], row["reason"]))
            for segment in live
            for row in read(self.segments / segment["id"] / "rejects.parquet")
        ]
        paths = [path for path, _ in (*features, *rejects)]
        assert len(set(paths)) == len(paths), "a path is there twice"
        return Rows(dict(features), dict(rejects))

    def files(self) -> dict[str, bytes]:
        """Every file of every segment."""
        files = (path for path in self.segments.rglob("*") if path.is_file())
        return {str(path.relative_to(self.segments)): path.read_bytes() for path in files}


def local(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def live_in(run: Path) -> list[Segment]:
    live: list[Segment] = json.loads((run / "segments.json").read_text())["segments"]
    return live


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a file, or none if there is no such file."""
    rows: list[dict[str, Any]] = pq.read_table(file, partitioning=None).to_pylist() if file.exists() else []
    return rows


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Lake]:
    """An empty lake; a handful of photos fills several row groups, and the jobs need no Spark."""
    monkeypatch.setattr(mobilenet, "read", lambda _uri: MODEL)
    monkeypatch.setattr(job, "FEATURE_DIMENSIONS", DIMENSIONS)
    monkeypatch.setattr(context, "start", lambda _name: Here())
    monkeypatch.setattr(segments, "ROWS_PER_GROUP", 2)
    for module in (changes, extraction):
        monkeypatch.setattr(module, "ROWS_PER_GROUP", 3)
    caplog.set_level(logging.ERROR, logger="spark_jobs")  # a history has thousands of lines
    yield Lake(tmp_path / "lake")
    for shared in decoder._decoders.values():  # its child would end with this process
        shared.close()
    decoder._decoders.clear()
