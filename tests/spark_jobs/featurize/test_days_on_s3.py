"""Two days of a lake on SeaweedFS: versions by ETag, and segments and scores in the bucket."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs import fingerprint
from spark_jobs.args import FeaturizeArgs, PcaArgs
from spark_jobs.featurize import job
from spark_jobs.featurize.extraction import Engine
from spark_jobs.images import changes, decoding
from spark_jobs.pca import job as pca_job
from spark_jobs.records import FeaturizeSummary
from tests.s3_store import Store, use_environment
from tests.spark_jobs import lake_days
from tests.spark_jobs.in_process import Here
from tests.spark_jobs.lake_days import DIMENSIONS, MODEL, Lake, features_of, load_model, photo

lake = lake_days.lake

pytestmark = pytest.mark.slow


def test_days_on_s3_are_those_of_the_photos_that_are_there(
    lake: Lake, store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, store.url)
    photos: dict[str, bytes] = {}

    def change(changed: dict[str, bytes | None]) -> None:
        for path, data in changed.items():
            if data is None:
                del photos[path]
                store.s3.delete_object(Bucket=lake_bucket, Key=f"data/{path}")
            else:
                photos[path] = data
                store.put(lake_bucket, f"data/{path}", data)

    def run_day(slug: str, published: changes.Published | None) -> FeaturizeSummary:
        run = f"s3://{lake_bucket}/runs/{slug}"
        args = FeaturizeArgs(
            images=f"s3://{lake_bucket}/data", run=run, model="s3://model", changes=f"{run}/changes.json",
            segments=f"s3://{lake_bucket}/segments", max_reject_ratio=1.0, images_per_task=2, small_segments=1,
        )  # fmt: skip
        planned = fingerprint.planned(MODEL.digest, args)
        changes.find(changes.Folder(args.images, args.pattern), run, planned, published)
        summary = job.run(Here(), args, engine=Engine(load_model))  # type: ignore[arg-type]
        pca_job.run(PcaArgs(run, variance_target=None, n_components=DIMENSIONS, sample_images=0))
        return summary

    def read(key: str) -> pa.Table:
        return pq.read_table(io.BytesIO(store.read(lake_bucket, key)))

    def check(slug: str) -> list[Any]:
        live: list[Any] = json.loads(store.read(lake_bucket, f"runs/{slug}/segments.json"))["segments"]
        expected = {}
        for path, data in photos.items():
            pixels = decoding.decode(data, max_pixels=10**6)
            if not isinstance(pixels, decoding.Reject):
                expected[f"s3://{lake_bucket}/data/{path}"] = features_of(pixels)
        tables = [read(f"segments/{each['id']}/features.parquet") for each in live if each["features"]]
        rows = [row for table in tables for row in table.to_pylist()]
        assert sorted(row["path"] for row in rows) == sorted(expected)
        for row in rows:
            np.testing.assert_array_equal(np.array(row["features"], np.float32), expected[row["path"]])
        vectors = np.stack(list(expected.values())).astype(np.float64)
        with np.load(io.BytesIO(store.read(lake_bucket, f"runs/{slug}/pca/model.npz"))) as model:
            variances = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
            np.testing.assert_allclose(model["eigenvalues"], variances, rtol=0, atol=1e-10 * variances[0])
        rejects = read(f"runs/{slug}/rejects/part-00000.parquet")["path"].to_pylist()
        assert sorted([*rejects, *expected]) == sorted(f"s3://{lake_bucket}/data/{path}" for path in photos)
        assert len(store.read(lake_bucket, f"runs/{slug}/pca/pca_features.csv").splitlines()) == 1 + len(expected)
        return live

    change({f"a/{number} é.jpg": photo(number) for number in range(8)} | {"b/bad.jpg": b"no image"})
    first = run_day("first", None)
    live = check("first")
    before = {key: store.read(lake_bucket, key) for key in store.keys(lake_bucket, "segments/")}

    other = next(data for data in map(photo, range(100, 200)) if len(data) == len(photos["a/2 é.jpg"]))
    change({"a/0 é.jpg": None, "a/1 é.jpg": photos["a/1 é.jpg"], "a/2 é.jpg": other, "c/new.jpg": photo(50)})
    published = changes.Published(f"s3://{lake_bucket}/runs/first/listing.parquet", first["fingerprint"], live)
    second = run_day("second", published)
    found = json.loads(store.read(lake_bucket, "runs/second/changes.json"))
    assert [found[name] for name in ("new", "changed", "gone", "work")] == [1, 1, 1, 2], "by ETag, not by time"
    assert second["featurized"] == 2
    check("second")
    assert {key: store.read(lake_bucket, key) for key in before} == before, "a segment is never edited"
    assert not store.keys(lake_bucket, "runs/second/staging")
