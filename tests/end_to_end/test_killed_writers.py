"""A job that is killed while it writes to S3: what remains, that nobody takes it for a result, and what deletes it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import psutil
import pyarrow.parquet as pq
import pytest

from benchmarks.s3_faults import Rule
from benchmarks.s3_proxy import S3Proxy
from include.lake.layout import Lake
from include.lake.uploads import abort_uploads
from include.settings.deployment import Settings
from local.emr.options import SHORT_JOB_JVM
from local.emr.spark.environment import step_environment
from local.emr.spark.s3_connector import connector_folder, connector_jars, connector_settings
from local.emr.spark.spark_home import archive_options, prepared_home
from local.environment import PROJECT, local_environment
from local.images.bucket import ImageBucket
from local.images.loading import load_images
from local.s3.process import StoreProcess
from spark_jobs.args import FeaturizeArgs, PcaArgs
from spark_jobs.lake import storage
from tests.end_to_end.conftest import Bench, put_pictures

LAKE = Lake("s3://fruits")
RUN = LAKE.run("20261122T000000Z-00000000")
SETTINGS = Settings(profile="local", aws_conn_id=None)
IMAGES = 49

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not connector_jars(connector_folder()),
        reason="Spark's S3 connector could not be fetched from Maven Central (make setup STORE=s3 says why)",
    ),
]


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """This process's environment with the address of a store."""
    clean = local_environment(airflow_home=tmp_path, endpoint_url="http://127.0.0.1:1", lake=LAKE.root)
    with StoreProcess(tmp_path / "store", environment=clean) as store:
        for name in os.environ:
            if name.startswith(("AWS_", "AIRFLOW", "FRUITS_")):
                monkeypatch.delenv(name)
        for name, value in (clean | {"AWS_ENDPOINT_URL_S3": store.url}).items():
            monkeypatch.setenv(name, value)
        yield dict(os.environ)


def submit(job: str, arguments: FeaturizeArgs | PcaArgs, environ: dict[str, str], folder: Path) -> subprocess.Popen:
    """Start a job as the local endpoint starts a step."""
    home = prepared_home()
    folder.mkdir()
    settings = connector_settings(connector_jars(connector_folder()), environ)
    options = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    options += ["--conf", "spark.ui.enabled=false", "--conf", "spark.driver.bindAddress=127.0.0.1"]
    clean = step_environment(
        environ,
        python=sys.executable,
        spark_home=home,
        scratch=folder,
        jvm_options=f"{SHORT_JOB_JVM} {archive_options(home)}",
    )
    command = [f"{home}/bin/spark-submit", "--master", "local[2]", *options]
    command += [str(PROJECT / "spark_jobs" / "entrypoints" / f"{job}.py"), *arguments.to_argv()]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            env=clean | {"PYTHONPATH": str(PROJECT)},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def kill(process: subprocess.Popen) -> None:
    """Kill a job with all its processes, like the loss of a node."""
    processes = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in processes:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(processes, timeout=30)


def test_killed_while_it_writes(bench: Bench, environ: dict[str, str], tmp_path: Path) -> None:
    put_pictures(tmp_path / "images", per_label=12)
    load_images(tmp_path / "images", ImageBucket(LAKE.root), "*.jpg")
    (model,) = (folder for folder in bench.models.iterdir() if folder.is_dir())
    for path in model.iterdir():
        storage.write_bytes(f"{LAKE.model(model.name)}/{path.name}", path.read_bytes())
    arguments = FeaturizeArgs(images=LAKE.data("data"), run=RUN.root, model=LAKE.model(model.name), images_per_task=2)
    s3 = boto3.Session().client("s3")

    def unfinished() -> list[str]:
        return [item["Key"] for item in s3.list_multipart_uploads(Bucket="fruits").get("Uploads", [])]

    # The proxy delays the tasks' uploads, so that there is time to kill the job during an upload.
    rules = [Rule("*/staging/*", "slow_down", methods=("PUT",))]
    with S3Proxy(environ["AWS_ENDPOINT_URL_S3"], rules=rules) as proxy:
        process = submit("featurize", arguments, environ | {"AWS_ENDPOINT_URL_S3": proxy.url}, tmp_path / "first")
        while proxy.counts().faults == 0:
            assert process.poll() is None, (tmp_path / "first" / "log").read_text()[-3000:]
            time.sleep(0.01)
        kill(process)

    # What remains of a large file, which is uploaded in parts.
    s3.create_multipart_upload(Bucket="fruits", Key=f"{RUN.root.removeprefix('s3://fruits/')}/staging/large")
    visible = [item["Key"] for item in s3.list_objects_v2(Bucket="fruits", Prefix="runs/").get("Contents", [])]
    shown = {name.removeprefix(RUN.root.removeprefix("s3://fruits/")).split("/")[1] for name in visible}
    found = {"changes.json", "listing.parquet", "work.parquet", "gone.parquet"}
    assert shown <= found | {"staging"}, "nothing that people or pca read exists yet"
    assert not storage.exists(RUN.featurize_summary)

    pca = submit("pca", PcaArgs(run=RUN.root, variance_target=0.8), environ, tmp_path / "pca")
    assert pca.wait() == 1
    assert "featurize has not completed for this run" in (tmp_path / "pca" / "log").read_text().splitlines()[-1]

    again = submit("featurize", replace(arguments, images_per_task=16), environ, tmp_path / "again")
    assert again.wait() == 0, (tmp_path / "again" / "log").read_text()[-3000:]
    folder = f"{RUN.root}/segments"
    names = storage.names(folder)
    files = [pq.read_table(io.BytesIO(storage.read_bytes(f"{folder}/{name}/features.parquet"))) for name in names]
    assert len({path for file in files for path in file["path"].to_pylist()}) == IMAGES
    assert json.loads(storage.read_bytes(RUN.featurize_summary))["features"] == IMAGES
    assert len(unfinished()) == 1
    assert abort_uploads(LAKE, RUN.root, SETTINGS) == 1
    assert unfinished() == []
