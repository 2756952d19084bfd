"""Make ``tests/data/step_logs``: what our jobs, Spark and the endpoint write when a step fails.

Each folder is one failure of a real job that was run through the local EMR endpoint: the step's logs, its executors'
where there are any, and what DescribeStep and DescribeCluster answered. Names of this machine's folders are replaced.

Usage: ``python -m tests.data.make_step_logs MODEL_FOLDER [KIND…]``; an exported model is in ``.local/models`` after
``make up``. Some minutes; the texts differ from run to run in times and ids only.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from local.emr.process import EndpointProcess
from spark_jobs.args import FeaturizeArgs
from tests.local.emr.conftest import Emr
from tests.s3_store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
TARGET = Path(__file__).with_name("step_logs")
GOOD, BAD = "good_rgb.jpg", "bad_truncated_half.jpg"
LAST_LINES = 150
LOCAL_CLUSTER = "local-cluster[2,1,1024]"


class Workshop:
    """A folder with the jobs' bundle and some images, and what runs there."""

    def __init__(self, root: Path, model: Path) -> None:
        self.root = root
        self.model = model
        self.bundle = root / "code"
        self.bundle.mkdir()
        shutil.make_archive(str(self.bundle / "spark_jobs"), "zip", REPOSITORY, "spark_jobs")
        shutil.copyfile(REPOSITORY / "spark_jobs" / "entrypoints" / "featurize.py", self.bundle / "featurize.py")

    def images(self, name: str, *, good: int, bad: int = 0) -> str:
        folder = self.root / name / "Apple"
        folder.mkdir(parents=True)
        for source, count in ((GOOD, good), (BAD, bad)):
            for number in range(count):
                shutil.copyfile(REPOSITORY / "tests/data/images" / source, folder / f"{number:04d}_{source}")
        return f"file://{folder.parent}"

    def arguments(self, images: str, **changes: Any) -> FeaturizeArgs:
        base = {"images": images, "run": f"file://{self.root}/run", "model": f"file://{self.model}"}
        return FeaturizeArgs(**(base | {"images_per_task": 20} | changes))

    def command(self, arguments: FeaturizeArgs, *flags: str, limit: str = "30m", with_zip: bool = True) -> list[str]:
        zipped = ["--py-files", f"file://{self.bundle}/spark_jobs.zip"] if with_zip else []
        return [
            *("timeout", "--signal=TERM", "--kill-after=60s", limit, "spark-submit", "--master", "yarn"),
            *("--deploy-mode", "client", *flags, *zipped, f"file://{self.bundle}/featurize.py", *arguments.to_argv()),
        ]


@contextmanager
def endpoint(root: Path, *arguments: str, **environment: str) -> Iterator[Emr]:
    state = Path(tempfile.mkdtemp(dir=root))
    with EndpointProcess(state, arguments, environment=dict(os.environ) | environment) as process:
        yield Emr(process.url, state, state / "logs")


def run(
    emr: Emr, kind: str, command: list[str], *, faults: dict[str, Any] | None = None, meanwhile: Any = None
) -> None:
    """Run a step that fails, and keep what it left."""
    emr.set_faults(faults or {})
    cluster = emr.create()
    [step] = emr.add(cluster, emr.step(*command, name="featurize 20261122T120000Z-0123abcd"))
    ended = threading.Event()
    if meanwhile:
        threading.Thread(target=meanwhile, args=(emr.folder(cluster, step), ended), daemon=True).start()
    status = emr.await_step(cluster, step)
    ended.set()
    assert status["State"] == "FAILED", (kind, status)
    target = TARGET / kind
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    folder = emr.folder(cluster, step)
    for name in ("stdout", "stderr", "controller"):
        keep(folder / name, target / name)
    for log in sorted(folder.glob("containers/*/stderr"))[:2]:
        keep(log, target / "containers" / log.parent.name / "stderr")
    described = emr.client.describe_step(ClusterId=cluster, StepId=step)["Step"]
    for name, record in (("step", described), ("cluster", emr.cluster(cluster))):
        text = json.dumps(record, indent=2, default=str, sort_keys=True)
        (target / f"{name}.json").write_text(scrub(text) + "\n", encoding="utf-8")
    sys.stdout.write(f"{kind}: {described['Status']['FailureDetails']['Message'].splitlines()[0][:150]}\n")


def keep(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = source.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    target.write_text("".join(f"{scrub(line)}\n" for line in lines), encoding="utf-8")


def scrub(text: str) -> str:
    """Return a text without names of this machine, its user and its folders."""
    text = re.sub(rf"{re.escape(tempfile.gettempdir())}/step-logs-\w+", "/mnt", text)
    text = text.replace(str(REPOSITORY / ".venv"), "/opt/fruit-features").replace(str(REPOSITORY), "/repository")
    text = text.replace(sys.base_prefix, "/usr")
    text = re.sub(rf"\b{re.escape(socket.gethostname())}\b", "ip-10-0-0-1", text)
    text = re.sub(r"(?<=127\.0\.0\.1[:/])\d{4,5}\b", "7077", text)
    return re.sub(rf"\b{re.escape(getpass.getuser())}\b", "hadoop", text)


def worker_killed(shop: Workshop) -> None:
    """Kill a Python worker, as the kernel does when a node has no memory left."""

    def kill(folder: Path, ended: threading.Event) -> None:
        while not ended.wait(0.02):
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    words, parent = process.cmdline(), process.parent()
                    worker = any("pyspark.daemon" in word for word in words)
                    of_daemon = parent is not None and any("pyspark.daemon" in word for word in parent.cmdline())
                    if worker and of_daemon and str(folder) in process.environ().get("LOCAL_EMR_STEP_FOLDER", ""):
                        time.sleep(0.5)
                        process.kill()
                        return

    with endpoint(shop.root, "--master", "local[1]") as emr:
        images = shop.images("worker", good=400)
        run(emr, "worker_killed", shop.command(shop.arguments(images)), meanwhile=kill)


def driver_out_of_memory(shop: Workshop) -> None:
    """Give the driver's JVM a heap that does not hold Spark."""
    flags = ("--driver-memory", "24m", "--conf", "spark.testing.reservedMemory=1")
    with endpoint(shop.root, "--master", "local[1]") as emr:
        run(emr, "driver_out_of_memory", shop.command(shop.arguments(shop.images("heap", good=1)), *flags))


def missing_module(shop: Workshop) -> None:
    """Leave the zip of the jobs away."""
    with endpoint(shop.root, "--master", "local[1]") as emr:
        run(emr, "missing_module", shop.command(shop.arguments(shop.images("zip", good=1)), with_zip=False))


def bad_input(shop: Workshop) -> None:
    """Have more images that cannot be decoded than the job allows."""
    with endpoint(shop.root, "--master", "local[1]") as emr:
        images = shop.images("bad", good=2, bad=3)
        run(emr, "bad_input", shop.command(shop.arguments(images, max_reject_ratio=0.1)))


def wrong_arguments(shop: Workshop) -> None:
    """Pass a flag that the job does not have."""
    with endpoint(shop.root, "--master", "local[1]") as emr:
        command = shop.command(shop.arguments(shop.images("flags", good=1)))
        run(emr, "wrong_arguments", [*command, "--no-such-flag=1"])


def time_limit(shop: Workshop) -> None:
    """Let the real limit end a job that takes longer."""
    with endpoint(shop.root, "--master", "local[1]") as emr:
        run(emr, "time_limit", shop.command(shop.arguments(shop.images("long", good=3000)), limit="6s"))


def driver_killed(shop: Workshop) -> None:
    """Kill the driver in the middle, as the kernel does when the primary node has no memory left."""
    fault = {"name": "*", "kills": "driver", "at_percent": 0, "after_seconds": 1}
    with endpoint(shop.root, "--master", "local[1]") as emr:
        command = shop.command(shop.arguments(shop.images("killed", good=1000)))
        run(emr, "driver_killed", command, faults={"steps": [fault]})


def lost_capacity(shop: Workshop) -> None:
    """Lose an executor, where Spark tries a task once only; on a cluster it gives up after the fourth."""
    fault = {"name": "*", "kills": "executor", "at_percent": 1}
    with endpoint(shop.root, "--master", LOCAL_CLUSTER) as emr:
        arguments = shop.arguments(shop.images("lost", good=1500), images_per_task=60)
        command = shop.command(arguments, "--conf", "spark.task.maxFailures=1")
        run(emr, "lost_capacity", command, faults={"steps": [fault]})


def access_denied(shop: Workshop) -> None:
    """Write to a bucket with keys that may only read."""
    with closing(Store(shop.root)) as store:
        bucket = store.new_bucket()
        store.put(bucket, "data/Apple/1.jpg", (REPOSITORY / "tests/data/images" / GOOD).read_bytes())
        keys = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reader", "AWS_ENDPOINT_URL_S3": store.url}
        with endpoint(shop.root, "--master", "local[1]", **keys, AWS_DEFAULT_REGION="eu-west-3") as emr:
            arguments = shop.arguments(f"s3://{bucket}/data", run=f"s3://{bucket}/runs/1")
            run(emr, "access_denied", shop.command(arguments))


KINDS: dict[str, Callable[[Workshop], None]] = {
    function.__name__: function
    for function in (
        *(worker_killed, driver_out_of_memory, missing_module, bad_input, wrong_arguments, time_limit),
        *(driver_killed, lost_capacity, access_denied),
    )
}


def main(model: str, *kinds: str) -> None:
    for kind in kinds or KINDS:
        with tempfile.TemporaryDirectory(prefix="step-logs-") as folder:
            KINDS[kind](Workshop(Path(folder), Path(model).resolve()))


if __name__ == "__main__":
    main(*sys.argv[1:])
