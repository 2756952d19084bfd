"""A run of the lake's first version becomes segments: its features stay as they are, and no image is computed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from spark_jobs import fingerprint
from spark_jobs.featurize import segments
from spark_jobs.featurize.extraction import Engine
from spark_jobs.images import changes
from spark_jobs.lake import features, schemas
from spark_jobs.pca import analysis
from tests.spark_jobs import lake_days
from tests.spark_jobs.in_process import Here
from tests.spark_jobs.lake_days import DIMENSIONS, MODEL, Day, Lake, photo, read

lake = lake_days.lake

pytestmark = pytest.mark.slow

REFUSING = Engine(lake_days.refuse_images)

VECTORS = np.random.default_rng(1).normal(size=(7, DIMENSIONS)).astype(np.float32)
"""The features of the first version, which no model of these tests gives: they can only have been copied."""

IMAGES = [f"{label}/{number}.jpg" for number, label in enumerate(["a", "a", "b", "b", "pêche", "z", "z"])]
REJECTS = ["a/bad.jpg", "b/bad.jpg", "z/bad.jpg"]

LISTED = [
    ("path", pa.string()),
    ("label", pa.string()),
    ("size", pa.int64()),
    ("modification_time", pa.timestamp("us", "UTC")),
]
FEATURES = pa.schema([*LISTED, ("features", pa.list_(pa.float32()))])
REJECTED = pa.schema([*LISTED, ("reason", pa.string()), ("detail", pa.string())])


@pytest.fixture(params=["snappy", "lz4"])  # pyarrow writes lz4 as LZ4_RAW
def first(request: pytest.FixtureRequest, lake: Lake) -> Path:
    """The folder of a run of the first version on ten files: two files of features, one of rejects, a listing."""
    lake.change({path: photo(number) for number, path in enumerate(IMAGES)} | dict.fromkeys(REJECTS, b"no image"))
    run = lake.folder / "runs" / "first"
    rows = sorted((row_of(lake, path) for path in lake.photos), key=lambda row: row["path"].encode())
    with_features = [
        row_of(lake, path) | {"features": vector.tolist()} for path, vector in zip(IMAGES, VECTORS, strict=True)
    ]
    rejects = [row_of(lake, path) | {"reason": "not_an_image", "detail": "text"} for path in REJECTS]
    for name, found, schema in (
        ("features/part-00000.parquet", with_features[:4], FEATURES),
        ("features/part-00001.parquet", with_features[4:], FEATURES),
        ("rejects/part-00000.parquet", rejects, REJECTED),
        ("listing.parquet", rows, pa.schema(LISTED)),
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(found, schema=schema), run / name, compression=request.param)
    (run / "features" / "_SUCCESS").touch()
    (run / "moments").mkdir()
    (run / "moments" / "part-00000.npz").write_bytes(b"moments of the first version are not used")
    return run


def row_of(lake: Lake, path: str) -> dict[str, Any]:
    status = (lake.folder / "data" / path).stat()
    modified = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=status.st_mtime_ns // 1000)
    uri = f"file://{lake.folder}/data/{path}"
    return {"path": uri, "label": path.split("/")[0], "size": status.st_size, "modification_time": modified}


def take_over(
    lake: Lake, first: Path, photos: dict[str, bytes | None], engine: Engine = REFUSING, **options: Any
) -> Day:
    recorded = fingerprint.recorded(MODEL.digest, first_arguments(lake))
    published = changes.Published(f"file://{first}/listing.parquet", recorded, [], f"file://{first}")
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    day = lake.run_day(photos, engine=engine, published=published, **options)
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    return day


def first_arguments(lake: Lake) -> dict[str, Any]:
    """The arguments in the summary of a run of the first version, which had fewer."""
    return {name: getattr(lake.args("first"), name) for name in (*fingerprint.ARGUMENTS, "images_per_task", "pattern")}


def vectors_of(lake: Lake, day: Day) -> dict[str, NDArray[np.float32]]:
    root = f"file://{lake.folder}/data/"
    found = lake.rows(day.live).features
    return {path.removeprefix(root): np.frombuffer(vector, np.float32) for path, (_, vector) in found.items()}


def check_kept(lake: Lake, day: Day, gone: set[str]) -> None:
    """The rows of the first version that stay are equal to the bit, with their labels; those that are gone are not."""
    found, labels = vectors_of(lake, day), lake.rows(day.live).features
    for path, vector in zip(IMAGES, VECTORS, strict=True):
        assert (path in found) == (path in lake.photos)
        if path not in gone:
            np.testing.assert_array_equal(found[path], vector)
            assert labels[f"file://{lake.folder}/data/{path}"][0] == path.split("/")[0]
    ids = [segment["id"] for segment in day.live]
    assert len(set(ids)) == len(ids)
    for segment in day.live:
        for name, schema in (("features", schemas.FEATURES), ("rejects", schemas.REJECTS)):
            file = lake.segments / segment["id"] / f"{name}.parquet"
            assert not file.exists() or pq.read_schema(file).equals(schema)


def test_an_unchanged_folder_is_taken_over_without_seeing_an_image(lake: Lake, first: Path) -> None:
    day = take_over(lake, first, {})
    assert (day.summary["featurized"], day.changes["work"], day.changes["everything"]) == (0, 0, None)
    assert (day.summary["features"], day.summary["rejects"]) == (7, 3)
    check_kept(lake, day, set())
    rejects = read(day.run / "rejects" / "part-00000.parquet")
    assert [row["path"].rpartition("/data/")[2] for row in rejects] == REJECTS
    assert {(row["etag"], row["reason"], row["size"]) for row in rejects} == {(None, "not_an_image", 8)}
    collected = analysis.collect_moments(Here(), features.find(f"file://{day.run}"))  # type: ignore[arg-type]
    assert collected.computed == {}
    np.testing.assert_allclose(collected.total.covariance, np.cov(VECTORS.astype(np.float64).T), rtol=1e-12, atol=1e-13)

    (lake.segments / "unused").mkdir()
    again = lake.run_day({}, engine=REFUSING)
    assert again.live == day.live, "the next day keeps the segments"


def test_gone_and_changed_images_of_the_first_version_lose_their_rows(lake: Lake, first: Path) -> None:
    photos = {"a/0.jpg": None, "z/bad.jpg": None, "b/2.jpg": photo(40), "c/new.jpg": photo(41)}
    day = take_over(lake, first, photos, Engine(lake_days.load_model))
    assert (day.changes["new"], day.changes["changed"], day.changes["gone"]) == (1, 1, 2)
    assert (day.summary["featurized"], day.summary["features"], day.summary["rejects"]) == (2, 7, 2)
    check_kept(lake, day, {"a/0.jpg", "b/2.jpg"})
    expected = lake.expected().features
    found = lake.rows(day.live).features
    for path in ("b/2.jpg", "c/new.jpg"):
        uri = f"file://{lake.folder}/data/{path}"
        assert found[uri] == expected[uri]


def test_a_file_of_which_every_row_is_gone_leaves_no_segment_and_costs_no_other_its_name(
    lake: Lake, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file's number is not used; the merged segment must not get the number of a live one."""
    monkeypatch.setattr(segments, "ROWS_PER_SEGMENT", 6)
    gone = dict.fromkeys(IMAGES[:5])
    photos: dict[str, bytes | None] = {**gone, **{f"c/{number}.jpg": photo(50 + number) for number in range(2)}}
    day = take_over(lake, first, photos, Engine(lake_days.load_model), small_segments=1)
    assert (day.summary["features"], day.summary["rejects"]) == (4, 3)
    check_kept(lake, day, set(IMAGES[:5]))
    assert [segment["images"] for segment in day.live] == [3, 4], "that of the rejects is large, two were merged"


def test_another_fingerprint_takes_nothing_over(lake: Lake, first: Path) -> None:
    published = changes.Published(
        f"file://{first}/listing.parquet", fingerprint.recorded("f" * 64, {}), [], f"file://{first}"
    )
    day = lake.run_day({}, published=published)
    assert day.summary["featurized"] == 10
    assert lake.rows(day.live) == lake.expected()


def test_the_model_that_refuses_images_is_noticed(lake: Lake, first: Path) -> None:
    with pytest.raises(AssertionError, match="the model saw an image"):
        take_over(lake, first, {"c/new.jpg": photo(1)})
