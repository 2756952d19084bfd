"""What the pca job reads and writes itself, on an S3 server: nothing of it goes through Spark's file systems."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from spark_jobs.lake import features as features_of_runs
from spark_jobs.lake import parts, schemas, storage
from spark_jobs.numerics import decomposition, moments
from spark_jobs.pca import analysis, blocks, score_csv, scores
from tests.spark_jobs.feature_runs import path_of, realistic, write_run

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    store = fs.S3FileSystem(endpoint_override=f"http://127.0.0.1:{port}", allow_bucket_creation=True)
    name = f"scores-{uuid.uuid4().hex[:12]}"  # moto keeps its buckets as long as the process lives
    store.create_dir(name)
    yield f"s3://{name}"
    server.stop()


def upload(folder: Path, uri: str) -> None:
    """Upload a folder; its record of the live segments then names the uploaded segments."""
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            if path.name == "segments.json":
                data = data.replace(f"file://{folder}".encode(), uri.encode())
            storage.write_bytes(f"{uri}/{path.relative_to(folder).as_posix()}", data)


def test_features_to_scores_to_csv(bucket: str, tmp_path: Path) -> None:
    vectors = realistic(23, 6)
    write_run(tmp_path, vectors, with_moments=True)
    upload(tmp_path, f"{bucket}/runs/a")
    of_run = features_of_runs.find(f"{bucket}/runs/a")
    features = f"{bucket}/runs/a/segments"
    assert of_run.folder == features
    pieces = parts.pieces(of_run.files)
    assert len(pieces) == 5
    read = moments.accumulate(blocks.refill(block.vectors for block in blocks.read(features, pieces, 6)), 6)
    gathered = analysis.collect_moments(None, of_run)  # type: ignore[arg-type]  # no Spark: the moments are there
    assert (len(gathered.digests), gathered.computed) == (5, {})
    np.testing.assert_allclose(gathered.total.m2, read.m2, rtol=1e-12, atol=1e-12)
    fitted = decomposition.fit(gathered.total, 0.9)
    folder = f"{bucket}/runs/a/pca/scores"
    texts = []
    for number, part in enumerate((pieces[:2], pieces[2:])):
        written = storage.join(folder, schemas.FILE_NAME.format(number))
        scores.write(features, part, fitted, written)
        texts.append(f"{bucket}/runs/a/pca/csv/{number}")
        score_csv.write_part(written, texts[-1])
        score_csv.check_part(written, texts[-1])
    csv = f"{bucket}/runs/a/pca/pca_features.csv"
    score_csv.assemble(texts, fitted.k, csv)
    by_pyarrow = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL_S3"])
    written = pq.read_table(folder.removeprefix("s3://"), filesystem=by_pyarrow)
    assert written.column("path").to_pylist() == [path_of(row) for row in range(23)]
    found = np.array(written.column("components").to_pylist())
    np.testing.assert_allclose(found, vectors.astype(np.float64) @ fitted.components.T, rtol=1e-12, atol=1e-12)
    assert len(storage.read_bytes(csv).splitlines()) == 24


def test_a_csv_that_fails_halfway_is_not_there(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "part-00000.csv").write_text("1.0,a\n")
    upload(tmp_path, f"{bucket}/csv")
    parts_of_text = [f"{bucket}/csv/part-00000.csv", f"{bucket}/csv/part-00001.csv"]
    with pytest.raises(FileNotFoundError):
        score_csv.assemble(parts_of_text, 1, f"{bucket}/pca_features.csv")
    assert not storage.exists(f"{bucket}/pca_features.csv")
