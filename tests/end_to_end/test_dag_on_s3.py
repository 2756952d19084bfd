"""The DAG through Airflow with a lake on S3 (SeaweedFS on this machine); Spark uses its S3A connector."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from include.settings.parameters import RunParams
from local.emr.spark.s3_connector import connector_folder, connector_jars
from local.images.bucket import ImageBucket
from local.images.loading import load_images
from local.images.model import DOWNLOAD_FAILED
from local.run.lake import fill_lake
from tests.end_to_end.conftest import Bench, Outcome, put_pictures
from tests.s3_store import REGION, Store

ROOT = "s3://fruits"
FULL_RUN = {"max_reject_ratio": 0.1, "full_run": True}
BUCKET = "fruits"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not connector_jars(connector_folder()),
        reason="Spark's S3 connector could not be fetched from Maven Central (make setup STORE=s3 says why)",
    ),
]


def keys_of(name: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": name}


@dataclass(frozen=True)
class Published:
    """A run that has published, and the store of its lake."""

    store: LakeStore
    outcome: Outcome
    slug: str
    log_uri: str

    @property
    def folder(self) -> str:
        return f"runs/{self.slug}/"


class LakeStore(Store):
    """The store with the bucket of a lake; it can be killed and restarted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.files = fs.S3FileSystem(endpoint_override=self.url, region=REGION, access_key="local", secret_key="local")

    def restart(self) -> None:
        """Start again on the same port."""
        self.start(int(self.url.rpartition(":")[2]))

    def names(self, prefix: str = "") -> set[str]:
        return self.keys(BUCKET, prefix)

    def current(self) -> dict[str, Any]:
        return json.loads(self.read(BUCKET, "current.json"))

    def features(self) -> pd.DataFrame:
        """Return the features of the published state."""
        return pd.concat(self.table(name) for name in self.current()["features"])

    def table(self, folder: str) -> pd.DataFrame:
        return pq.read_table(f"{BUCKET}/{folder}", filesystem=self.files).to_pandas()

    def unfinished_uploads(self) -> list[str]:
        return [item["Key"] for item in self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]

    def published(self) -> dict[str, str]:
        """Return the published objects by name, each with its ETag."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return {
            item["Key"]: item["ETag"]
            for page in pages
            for item in page.get("Contents", [])
            if item["Key"].startswith(("results/", "results_csv/", "current.json"))
        }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LakeStore]:
    with contextlib.closing(LakeStore(tmp_path_factory.mktemp("store"))) as store:
        yield store


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures under labels with characters that are special in URLs and globs, and two files that become rejects."""
    folder = tmp_path_factory.mktemp("images")
    put_pictures(folder)
    shutil.copytree(folder / "Banana", folder / "Mangue 🥭 «mûre» [1] & co=?")
    (folder / "Kiwi 100%" / "empty.jpg").write_bytes(b"")
    (folder / "Lime #1+2" / "text é+%20.jpg").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def published(bench: Bench, store: LakeStore, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A lake that was filled as by `make run STORE=s3`, and to which a run has published."""
    state = tmp_path_factory.mktemp("state")
    (state / "models").symlink_to(bench.models)
    (bench.models / DOWNLOAD_FAILED).touch()  # no network: without weights on this machine, random ones
    lines: list[str] = []
    environ = bench.environment(ROOT, store_url=store.url)
    fill_lake(environ, ROOT, images, RunParams.image_pattern, state, state / "log", lines.append)
    assert "images: 34 from" in lines[0]
    log_uris: list[str] = []
    outcome = bench.run(
        ROOT,
        tmp_path_factory.mktemp("published"),
        store_url=store.url,
        conf={"max_reject_ratio": 0.1},
        afterwards=lambda url: log_uris.extend(described_log_uris(url)),
    )
    assert outcome.state.state == "success", outcome.log[-4000:]
    [log_uri] = log_uris
    return Published(store, outcome, store.current()["run"], log_uri)


def described_log_uris(url: str) -> list[str]:
    """Return the LogUri of each cluster, as the endpoint answers it."""
    emr = boto3.client("emr", region_name="eu-west-3", endpoint_url=url)
    ids = [cluster["Id"] for cluster in emr.list_clusters()["Clusters"]]
    return [emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["LogUri"] for cluster_id in ids]


def test_results_are_those_of_the_photos(published: Published, images: Path) -> None:
    store = published.store
    results = store.table("results")
    assert list(results.columns) == ["path", "label", "features"]
    assert set(results["label"]) == {folder.name for folder in images.iterdir()}
    expected = {
        f"{ROOT}/data/{path.relative_to(images)}" for path in images.rglob("*.[jJ]*") if path.stat().st_size > 99
    }
    assert set(results["path"]) == expected
    assert len(results) == 32
    same = results.assign(name=results["path"].str.rpartition("/")[2]).set_index(["label", "name"])["features"]
    for name in ("0_100.jpg", "_hidden.JPG"):
        np.testing.assert_array_equal(same["Banana", name], same["Mangue 🥭 «mûre» [1] & co=?", name])
    table = pd.read_csv(io.BytesIO(store.read(BUCKET, "results_csv/pca_features.csv")))
    assert len(table) == 32
    assert table.columns[-1] == "label"


def test_the_logs_are_read_although_emr_answers_their_folder_with_s3n(published: Published) -> None:
    """The residency check compares the folder with the requested one, and the sensors read the logs of their steps."""
    assert published.log_uri == f"s3n://{BUCKET}/logs/"
    [cluster] = published.outcome.clusters
    assert published.outcome.log.count(f"The last lines of {ROOT}/logs/{cluster['Id']}/steps/") == 2
    manifest = json.loads(published.store.read(BUCKET, published.store.current()["manifest"]))
    assert {attestation["verdict"] for attestation in manifest["residency"].values()} == {"allowed"}


def test_rejects_have_their_reasons(published: Published) -> None:
    store = published.store
    rejects = store.table(f"{published.folder}rejects").sort_values("path")
    assert [path.rpartition("/")[2] for path in rejects["path"]] == ["empty.jpg", "text é+%20.jpg"]
    assert list(rejects["reason"]) == ["empty_file", "not_an_image"]


def test_no_upload_is_unfinished(published: Published) -> None:
    store, outcome = published.store, published.outcome
    run = published.folder
    kinds = {name.removeprefix(run).partition("/")[0] for name in store.names(run)}
    assert kinds == {
        *("changes.json", "listing.parquet", "work.parquet", "gone.parquet", "featurize.json", "segments.json"),
        *("rejects", "progress", "pca", "pca.json", "cost.json", "report.json", "report.html"),
    }
    assert store.unfinished_uploads() == []
    assert ".access" not in store.names()
    assert outcome.live_clusters == []
    logs = store.names(f"logs/{outcome.clusters[0]['Id']}/")
    assert sum(name.endswith("stderr.gz") for name in logs) == 2


def test_only_this_machine_was_contacted(published: Published) -> None:
    outcome = published.outcome
    assert outcome.connections <= {"127.0.0.1", "::1"}
    assert not any("amazonaws" in host for host in outcome.lookups)


def test_wrong_keys(bench: Bench, published: Published, tmp_path: Path) -> None:
    check_refused(bench, published.store, tmp_path, "write to the bucket 'fruits'", keys=keys_of("stranger"))


@pytest.mark.soak
def test_missing_bucket(bench: Bench, published: Published, tmp_path: Path) -> None:
    check_refused(bench, published.store, tmp_path, "write to the bucket 'vegetables'", root="s3://vegetables")


@pytest.mark.soak
def test_read_only_bucket(bench: Bench, published: Published, tmp_path: Path) -> None:
    check_refused(bench, published.store, tmp_path, "write to the bucket 'fruits'", keys=keys_of("reader"))


@pytest.mark.soak
def test_no_permission_to_delete(bench: Bench, published: Published, tmp_path: Path) -> None:
    store = published.store
    store.deny_delete(BUCKET)
    try:
        check_refused(bench, store, tmp_path, "delete from the bucket 'fruits'", keys=keys_of("worker"))
    finally:
        store.allow(BUCKET, lambda: store.delete_nothing(BUCKET))


def check_refused(
    bench: Bench,
    store: LakeStore,
    tmp_path: Path,
    operation: str,
    *,
    root: str = ROOT,
    keys: dict[str, str] | None = None,
) -> None:
    """Check that the first task names the refused operation, no cluster is created, and nothing published changes."""
    before = store.published()
    outcome = bench.run(root, tmp_path, store_url=store.url, keys=keys)
    assert outcome.state.state == "failed"
    assert outcome.state.tasks["open_run"] == "failed"
    assert outcome.clusters == []
    assert f"AccessRefusedError: cannot {operation}" in outcome.log
    assert store.published() == before


@pytest.mark.soak
def test_cluster_that_may_only_read(bench: Bench, published: Published, tmp_path: Path) -> None:
    """The keys of Airflow are right, those of the cluster are not, as with a wrong instance profile."""
    store = published.store
    before = store.published()
    outcome = bench.run(ROOT, tmp_path, store_url=store.url, endpoint_keys=keys_of("reader"), conf={"full_run": True})
    assert outcome.state.tasks["wait_featurize"] == "failed", outcome.state
    assert outcome.state.state == "failed"
    assert "ACCESS_DENIED" in outcome.log
    assert f"bucket '{BUCKET}'" in outcome.log
    assert outcome.live_clusters == []
    assert store.published() == before


@pytest.mark.soak
def test_a_repeated_run_publishes_the_same_rows_and_keeps_the_files_of_the_first(
    bench: Bench, published: Published, tmp_path: Path
) -> None:
    store, outcomes = published.store, []
    for number in range(2):
        outcome = bench.run(
            ROOT,
            tmp_path / str(number),
            store_url=store.url,
            conf=FULL_RUN,
            rerun_of="2026-11-20T00:00:00+00:00",
        )
        assert outcome.state.state == "success", outcome.log[-4000:]
        outcomes.append((outcome.state.run_id, store.current()["run"], by_path(store.features())))
    (first_id, first, before), (second_id, second, after) = outcomes
    assert first_id == second_id
    assert second.startswith(f"{first}-")
    for table in (after, by_path(store.table("results"))):
        assert list(table["path"]) == list(before["path"])
        np.testing.assert_array_equal(np.stack(table["features"]), np.stack(before["features"]))
    for run in (first, second):
        assert len(store.table(f"runs/{run}/rejects")) == 2
        assert len(store.table(f"runs/{run}/pca/scores")) == 32
    assert store.unfinished_uploads() == []


def by_path(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("path", ignore_index=True)


@pytest.mark.soak
@pytest.mark.parametrize("job", ["featurize", "pca"])
def test_store_that_is_killed_and_restarted_during_a_step(
    bench: Bench, published: Published, tmp_path: Path, job: str
) -> None:
    """Whether the step survives it or not, the published files are complete and the next run succeeds."""
    store = published.store
    before = store.published()

    def interrupt(state_dir: Path) -> None:
        await_text(state_dir, f"progress {job}")
        store.process.stop()  # SIGKILL
        time.sleep(10)
        store.restart()

    outcome = bench.run(
        ROOT,
        tmp_path,
        store_url=store.url,
        meanwhile=interrupt,
        conf=FULL_RUN | {"images_per_task": 1},
    )
    if outcome.state.state == "failed":
        assert store.published() == before
        assert outcome.live_clusters == []
    else:
        assert len(store.table("results")) == 32
    again = bench.run(ROOT, tmp_path / "again", store_url=store.url, conf=FULL_RUN)
    assert again.state.state == "success", again.log[-4000:]
    assert len(store.table("results")) == 32


def await_text(folder: Path, text: str) -> None:
    """Wait until the output of a step contains a text; the limit only turns a hang into a failure."""
    for _ in range(2000):
        # spark-submit sends both streams of the Python driver to its standard output.
        for path in folder.glob("clusters/*/steps/*/stdout"):
            if text in path.read_text(encoding="utf-8", errors="replace"):
                return
        time.sleep(0.05)
    pytest.fail(f"no step wrote {text!r}")


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_ten_thousand_small_objects(
    bench: Bench, published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = published.store
    put_pictures(tmp_path / "few")
    photos = sorted((tmp_path / "few").rglob("*.jpg"))
    for number in range(10_000):
        photo = photos[number % len(photos)]
        target = tmp_path / "many" / photo.parent.name / f"{number:05d} #é%.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(photo)
    for name, value in bench.environment(ROOT, store_url=store.url).items():
        monkeypatch.setenv(name, value)
    lake = f"{ROOT}/many/objects"
    assert load_images(tmp_path / "many", ImageBucket(lake), "*.jpg").added == 10_000
    assert load_images(tmp_path / "many", ImageBucket(lake), "*.jpg").added == 0
    for name in store.names("models/"):
        store.s3.copy({"Bucket": BUCKET, "Key": name}, BUCKET, f"many/objects/{name}")
    outcome = bench.run(lake, tmp_path, store_url=store.url, run_seconds=900)
    assert outcome.state.state == "success", outcome.log[-4000:]
    results = store.table("many/objects/results")
    assert len(results) == 10_000
    assert results["path"].is_unique
