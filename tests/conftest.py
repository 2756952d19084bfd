"""What all tests share: a separate Airflow home, no access to a real AWS account, and a clean process."""

from __future__ import annotations

import contextlib
import locale
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.botocore_files import parse_once
from tests.once import build_once

if TYPE_CHECKING:
    from tests.s3_store import Store

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
BUCKET = "lake-of-the-tests"

# Airflow reads its configuration when it is first imported, so this cannot wait for a fixture.
for _name in [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW", "FRUITS_", "SPARK_", "PYSPARK_"))]:
    del os.environ[_name]
_home = tempfile.mkdtemp(prefix="fruit-features-tests-")
os.environ |= {
    "AIRFLOW_HOME": _home,
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_home}/airflow.db",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_DEFAULT_REGION": "eu-west-3",
    # Nothing listens here: a test that calls AWS without its own endpoint fails at once.
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # As the local endpoint's drivers (SHORT_JOB_JVM): a JVM that lives for seconds needs half of the CPU time.
    "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}

# The machine that runs the tests may be slow, or busy: an example has no time limit.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")
parse_once()


ONE_WORKER = "tests/end_to_end/service/"
"""Folder of the tests that share one service (`make up`)."""

LONGEST_FIRST = (
    ONE_WORKER,
    "tests/end_to_end/test_dag_failures.py",
    "tests/end_to_end/",
    "tests/spark_jobs/",
    "tests/local/",
)
"""Prefixes of test files that take minutes. Workers take files in this order, so that none works alone at the end."""


STARTERS = frozenset({"spark", "models", "endpoint", "start_endpoint", "s3_server", "store", "bench", "service", "aws"})
"""Fixtures that start Spark, TensorFlow, Airflow, a server, or moto's AWS (``aws``)."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test as slow if it uses one of ``STARTERS``, directly or through another fixture."""
    if STARTERS.intersection(getattr(item, "fixturenames", ())):
        item.add_marker("slow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by ``LONGEST_FIRST``; within a prefix, they keep their random order (pytest-randomly)."""
    ranks = [*LONGEST_FIRST, ""]
    items.sort(key=lambda item: next(rank for rank, prefix in enumerate(ranks) if item.nodeid.startswith(prefix)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a worker whole files; the files that share a running Airflow go to the same worker."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return ONE_WORKER if nodeid.startswith(ONE_WORKER) else str(super()._split_scope(nodeid))

    return Scheduler(config, log)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared photos and weights; tests generate what is missing there."""
    return SHARED


@pytest.fixture(scope="session")
def weights(shared: Path) -> str:
    """Return the shared ImageNet weights, or random ones, as ``spark_jobs.model.export --weights`` expects them."""
    from include.artifacts.weights import RANDOM, find_weights

    return find_weights(shared=shared) or RANDOM


@pytest.fixture(scope="session")
def models(weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one exported model, ``<digest>/``; TensorFlow exports it once per test run."""
    from include.artifacts.publishing import export_model

    return build_once(tmp_path_factory, "models", lambda folder: export_model(weights, folder))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, as a boto3 resource: an observer's view of what the product writes."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    import boto3

    found = boto3.resource("s3", endpoint_url=s3_server, region_name="eu-west-3").Bucket(BUCKET)
    found.create(CreateBucketConfiguration={"LocationConstraint": "eu-west-3"})
    yield found
    found.objects.delete()
    found.delete()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """SeaweedFS, which checks signatures and permissions; moto (``s3_server``) accepts any keys."""
    from tests.s3_store import Store

    with contextlib.closing(Store(tmp_path_factory.mktemp("store"))) as store:
        yield store


@pytest.fixture
def lake_bucket(store: Store) -> Iterator[str]:
    """The name of a new, empty bucket in that store."""
    name = store.new_bucket()
    yield name
    store.delete_bucket(name)  # SeaweedFS reserves some GB of disk space per bucket


def process_state() -> dict[str, Any]:
    """Return what a test must leave as it was, apart from the environment."""
    return {
        "the working directory": Path.cwd(),
        "the time zone (time.tzset)": time.tzname,
        "the locale": locale.setlocale(locale.LC_ALL),
        "the handler of SIGTERM": signal.getsignal(signal.SIGTERM),
    }


def restore_process_state(state: dict[str, Any]) -> None:
    os.chdir(state["the working directory"])
    time.tzset()
    locale.setlocale(locale.LC_ALL, state["the locale"])
    signal.signal(signal.SIGTERM, state["the handler of SIGTERM"])


def drop_cached_clients() -> None:
    """Drop the S3 clients that the process cached.

    They are cached by their arguments, not by the server and the keys that the environment names: those of one test
    would talk to the server of another, or with its keys.
    """
    if object_store := sys.modules.get("spark_jobs.lake.object_store"):
        object_store._open_bucket.cache_clear()
    if buckets := sys.modules.get("include.lake.buckets"):
        buckets.open_bucket.cache_clear()
    # The default session stays if it has the keys of this file: a new one reads the services' descriptions again.
    if (boto3 := sys.modules.get("boto3")) and (session := boto3.DEFAULT_SESSION):
        from botocore.exceptions import BotoCoreError

        try:
            keys = session.get_credentials()
        except BotoCoreError:
            keys = None
        if keys is None or keys.access_key != os.environ.get("AWS_ACCESS_KEY_ID"):
            boto3.DEFAULT_SESSION = None


@pytest.fixture(autouse=True)
def isolate_process_state() -> Iterator[None]:
    """Undo what a test changed in its process; fail it if it changed what monkeypatch can restore.

    The handlers and the level of the root logger are restored without a failure: the commands' ``main`` functions set
    them. pyarrow and obstore cache no client by themselves, and no code changes ``sys.path``.
    """
    # A shell ignores SIGINT in what it runs in the background, such as this test run; Spark installs its own handler.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    environ, state = dict(os.environ), process_state()
    root, handlers, level = logging.root, logging.root.handlers[:], logging.root.level
    yield
    names = {name for name in environ.keys() | os.environ.keys() if not name.startswith("PYTEST_")}
    changed = sorted(name for name in names if environ.get(name) != os.environ.get(name))
    for name in changed:
        os.environ.pop(name, None)
        if name in environ:
            os.environ[name] = environ[name]
    if left := [what for what, value in process_state().items() if value != state[what]]:
        restore_process_state(state)
    # A plain StreamHandler is from `basicConfig` in a fixture of a module; its stream is pytest's, closed at the end.
    root.handlers[:] = [handler for handler in handlers if type(handler) is not logging.StreamHandler]
    root.setLevel(level)
    drop_cached_clients()
    assert not changed + left, f"the test left changed: {', '.join(changed + left)}; use monkeypatch"
