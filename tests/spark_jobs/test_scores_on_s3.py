"""What the pca job reads and writes itself, on an S3 server: nothing of it goes through Spark's file systems."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer
from pyarrow import fs

from spark_jobs import blocks, decomposition, moments, schemas, scores, storage
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
    for path in folder.rglob("*"):
        if path.is_file():
            storage.write_bytes(f"{uri}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_features_to_scores_to_csv(bucket: str, tmp_path: Path) -> None:
    vectors = realistic(23, 6)
    write_run(tmp_path, vectors)
    upload(tmp_path, f"{bucket}/runs/a")
    features = f"{bucket}/runs/a/features"
    pieces = blocks.pieces(features)
    assert len(pieces) == 5
    fitted = decomposition.fit(
        moments.accumulate(blocks.refill(matrix for _, matrix in blocks.read(features, pieces, 6)), 6), 0.9
    )
    folder = f"{bucket}/runs/a/pca/scores"
    for number, part in enumerate((pieces[:2], pieces[2:])):
        scores.write(features, part, fitted, storage.join(folder, schemas.FILE_NAME.format(number)))
    csv = f"{bucket}/runs/a/pca/pca_features.csv"
    assert scores.write_csv(folder, csv) == 23
    filesystem, path = storage.locate(folder)
    written = pq.read_table(path, filesystem=filesystem)
    assert written.column("path").to_pylist() == [path_of(row) for row in range(23)]
    found = np.array(written.column("components").to_pylist())
    np.testing.assert_allclose(found, vectors.astype(np.float64) @ fitted.components.T, rtol=1e-12, atol=1e-12)
    assert len(storage.read_bytes(csv).splitlines()) == 24


def test_a_csv_that_fails_halfway_is_not_there(bucket: str, tmp_path: Path) -> None:
    good = pa.table([["a"], ["b"], [[1.0]]], schema=scores.SCORES)
    pq.write_table(good, tmp_path / "part-00000.parquet")
    (tmp_path / "part-00001.parquet").write_bytes(b"not Parquet")
    upload(tmp_path, f"{bucket}/scores")
    with pytest.raises(pa.ArrowInvalid):
        scores.write_csv(f"{bucket}/scores", f"{bucket}/pca_features.csv")
    assert not storage.exists(f"{bucket}/pca_features.csv")
