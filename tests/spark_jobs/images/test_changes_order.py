"""The listing has the order of S3, in a store that lists in another order."""

from __future__ import annotations

import io

import pyarrow.parquet as pq
import pytest

from spark_jobs.images import changes
from tests.s3_store import Store, use_environment

pytestmark = pytest.mark.slow


def test_a_folder_comes_after_names_that_continue_its_own(
    store: Store, lake_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_environment(monkeypatch, store.url)
    keys = ["data/Apple 2/1.jpg", "data/Apple-2/1.jpg", "data/Apple.jpg", "data/Apple/1.jpg", "data/Apple/2.jpg"]
    for key in keys:
        store.put(lake_bucket, key)
    listed = [item["Key"] for item in store.s3.list_objects_v2(Bucket=lake_bucket, Prefix="data/")["Contents"]]
    assert sorted(listed) == keys
    assert listed != keys, "SeaweedFS lists as S3 does now: `Bucket.lists_in_order` can be true for it"
    folder = changes.Folder(f"s3://{lake_bucket}/data", "*.jpg")
    changes.find(folder, f"s3://{lake_bucket}/run", {"digest": "f" * 64, "inputs": {}}, None)
    table = pq.read_table(io.BytesIO(store.read(lake_bucket, "run/listing.parquet")))
    assert table["path"].to_pylist() == [f"s3://{lake_bucket}/{key}" for key in keys]
