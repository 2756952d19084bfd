"""Fixtures that run the DAG through Airflow against the local EMR endpoint."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import boto3
import psutil
import pytest
from PIL import Image

from include.artifacts.publishing import publish_model
from include.lake.layout import Lake
from include.settings.dag_ids import FEATURES_DAG as DAG_ID
from include.settings.deployment import Settings, environment_name
from local.airflow.home import migrate_database
from local.environment import local_environment
from local.images.sample import draw_fruit
from local.run.watch import RunState, known_runs, read_state
from tests.forks import ForkedEndpoint
from tests.once import build_once

AUDITED_AIRFLOW = Path(__file__).with_name("audited_airflow.py")
WARM_AIRFLOW = Path(__file__).with_name("warm_airflow.py")
LIVE = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]
RUN_SECONDS = 240
RUN_DATE = "2026-11-01T00:00:00+00:00"
"""Date of the run of :func:`published`, by which a test can run it again."""

UNREACHABLE = "http://127.0.0.1:1"
"""An address where nothing listens."""


@dataclass
class Outcome:
    """A run of the DAG: its states, its log, its clusters, and the hosts that it connected to or resolved."""

    state: RunState
    log: str
    clusters: list[dict]
    connections: set[str]
    lookups: set[str]

    @property
    def live_clusters(self) -> list[str]:
        return [cluster["Id"] for cluster in self.clusters if cluster["Status"]["State"] in LIVE]


class WarmAirflow:
    """The parent's side of ``warm_airflow.py``: runs the DAG in processes that need not import Airflow first.

    Parameters
    ----------
    environ : dict
        Environment of the forking process. Its Airflow home is that of all runs.
    home : Path
        Its folder, with its log.
    """

    def __init__(self, environ: dict[str, str], home: Path) -> None:
        with (home / "warm.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, WARM_AIRFLOW],
                env=environ,
                cwd=home,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def run(self, argv: list[str], environ: dict[str, str], log: Path, seconds: float) -> None:
        """Run Airflow's command line once; its output goes to the log.

        Raises
        ------
        TimeoutExpired
            If it takes longer than ``seconds``; everything is killed then.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"argv": argv, "environ": environ, "folder": environ["AIRFLOW_HOME"], "log": str(log)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        if not ready:
            self.stop()
            raise subprocess.TimeoutExpired(argv, seconds)
        assert self._process.stdout.readline(), "the forking process has ended; see warm.log"

    def stop(self) -> None:
        """Kill the forking process and its children."""
        parent = psutil.Process(self._process.pid)
        for process in [*parent.children(recursive=True), parent]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.communicate()


@dataclass
class Bench:
    """An Airflow with its database, and the models and weights for its lakes."""

    home: Path
    models: Path
    weights: str
    warm: WarmAirflow | None = None

    def lake(self, folder: Path) -> Path:
        """Fill a lake with a model and some pictures."""
        publish_model(Lake(f"file://{folder}"), self.weights, self.models, None)
        put_pictures(folder / "data")
        return folder

    def run(
        self,
        lake: Path | str,
        tmp_path: Path,
        *,
        store_url: str | None = None,
        keys: dict[str, str] | None = None,
        endpoint_keys: dict[str, str] | None = None,
        run_seconds: int = RUN_SECONDS,
        meanwhile: Callable[[Path], None] | None = None,
        afterwards: Callable[[str], None] | None = None,
        faults: dict | None = None,
        conf: dict | None = None,
        arguments: tuple[str, ...] = (),
        environ: dict[str, str] | None = None,
        rerun_of: str | None = None,
        cold: bool = False,
        settle_seconds: int = 60,
    ) -> Outcome:
        """Run the DAG once, wait up to ``settle_seconds`` until its clusters have terminated, and list them.

        A lake on S3 needs its URI and ``store_url``. ``keys`` and ``endpoint_keys`` replace the keys of the
        environment. ``meanwhile`` is called in a thread during the run, with the endpoint's state folder;
        ``afterwards`` is called after the run, with the endpoint's URL. ``rerun_of`` is a date: the run gets the run id
        of that date, so that it can be repeated as itself. A run in the ``tmp_path`` of an earlier one continues its
        clusters. A ``cold`` run starts Airflow as a person does; the others are forked from a process that has
        imported it.
        """
        root = lake if isinstance(lake, str) else f"file://{lake}"
        state_dir = tmp_path / "emr"
        state_dir.mkdir(parents=True, exist_ok=True)
        scenario = tmp_path / "faults.json"
        scenario.write_text(json.dumps(faults or {}), encoding="utf-8")
        audit, log = tmp_path / "audit.txt", tmp_path / "airflow.log"
        endpoint_environment = self.environment(root, store_url=store_url) | (endpoint_keys or keys or {})
        # One worker imports the jobs' libraries, not one per core; a later --master replaces this one.
        options = ["--master", "local[1]", "--faults", str(scenario), *arguments]
        with ForkedEndpoint(state_dir, options, environment=endpoint_environment) as endpoint:
            known = known_runs(self.home / "airflow.db", DAG_ID) if rerun_of is None else frozenset()
            command = [str(AUDITED_AIRFLOW), str(audit)]
            settings = json.dumps(conf or {})
            command += ["rerun", rerun_of, settings] if rerun_of else ["dags", "test", DAG_ID, "--conf", settings]
            clean = self.environment(root, endpoint.url, store_url, environ) | (keys or {})
            with ThreadPoolExecutor(1) as pool:
                during = pool.submit(meanwhile, state_dir) if meanwhile else None
                if cold:
                    with log.open("wb") as stream:
                        subprocess.run(
                            [sys.executable, *command],
                            env=clean,
                            cwd=self.home,
                            stdout=stream,
                            stderr=stream,
                            timeout=run_seconds,
                            check=False,
                        )
                else:
                    self.warm = self.warm or WarmAirflow(self.environment("file:///nowhere"), self.home)
                    self.warm.run(command, clean, log, run_seconds)
                if during:
                    during.result()
            state = read_state(self.home / "airflow.db", DAG_ID, known)
            assert state is not None, log.read_text(encoding="utf-8")[-3000:]
            if afterwards:
                afterwards(endpoint.url)
            clusters = self.settled_clusters(endpoint.url, settle_seconds)
        events = [line.split("\t") for line in audit.read_text(encoding="utf-8").splitlines()]
        hosts = {kind: {host for event, host in events if event == kind} for kind in ("connect", "resolve")}
        return Outcome(state, log.read_text(encoding="utf-8"), clusters, hosts["connect"], hosts["resolve"])

    def environment(
        self,
        root: str,
        endpoint_url: str = UNREACHABLE,
        store_url: str | None = None,
        environ: dict[str, str] | None = None,
    ) -> dict[str, str]:
        """Return the environment of this Airflow for a lake. By default, EMR is unreachable."""
        clean = local_environment(
            airflow_home=self.home, endpoint_url=endpoint_url, lake=root, store_url=store_url, environ=environ
        )
        # Each poll, and each Airflow Variable that a task reads, costs CPU time, which these tests are short of.
        return default_settings() | clean | {"FRUITS_POKE_INTERVAL_SECONDS": "2"}

    def settled_clusters(self, url: str, seconds: int) -> list[dict]:
        """Return the endpoint's clusters as soon as all have terminated, at the latest after some seconds."""
        emr = boto3.client("emr", region_name="eu-west-3", endpoint_url=url)
        for _ in range(2 * seconds + 1):
            clusters = emr.list_clusters()["Clusters"]
            if all(cluster["Status"]["State"].startswith("TERMINATED") for cluster in clusters):
                break
            time.sleep(0.5)
        return clusters


def default_settings() -> dict[str, str]:
    """Return the environment variables of the settings that tasks would otherwise read as Airflow Variables.

    The service's tasks do read Airflow Variables: it does not get these variables.
    """

    def text(value: object) -> str:
        return "none" if value is None else "" if value == () else str(value)

    items = [item for item in fields(Settings) if not item.metadata["shapes_dag"]]
    return {environment_name(item.name): text(item.default) for item in items}


def put_pictures(data: Path, per_label: int = 6) -> None:
    """Draw fruits under labels with characters that break naive path and glob handling."""
    for label, kind in {
        "Pomme d'été": "Apple Red",
        "Kiwi 100%": "Kiwi",
        "Lime #1+2": "Lime",
        "Banana": "Banana",
    }.items():
        (data / label).mkdir(parents=True)
        for number in range(per_label):
            draw_fruit(kind, number).save(data / label / f"{number}_100.jpg", quality=90)
    hidden = data / "Banana" / "_hidden.JPG"
    Image.new("RGB", (40, 30), "yellow").save(hidden, format="JPEG")


def snapshot(lake: Path) -> dict[str, str]:
    """Return the published files of a lake by name, each with the digest of its bytes."""
    published = [
        *sorted((lake / "results").glob("**/*")),
        lake / "results_csv" / "pca_features.csv",
        lake / "current.json",
    ]
    return {
        str(path.relative_to(lake)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in published
        if path.is_file()
    }


def copy_database(database: Path, home: Path) -> Path:
    """Give an Airflow home a copy of the migrated database and its configuration, so that it need not migrate its own.

    The configuration holds generated secrets. Without it, each component of a service would generate its own.
    """
    home.mkdir(parents=True, exist_ok=True)
    for name in ("airflow.db", "migrated"):
        shutil.copyfile(database / name, home / name)
    configuration = (database / "airflow.cfg").read_text(encoding="utf-8")
    (home / "airflow.cfg").write_text(configuration.replace(str(database), str(home)), encoding="utf-8")
    return home


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of Airflow with a migrated database, which nobody uses but to copy it."""

    def build(home: Path) -> None:
        environ = local_environment(airflow_home=home, endpoint_url=UNREACHABLE, lake="file:///nowhere")
        migrate_database(environ, home / "migrate.log", lambda line: None)

    return build_once(tmp_path_factory, "airflow-database", build)


@pytest.fixture(scope="session")
def bench(database: Path, weights: str, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """An Airflow for one worker's runs of the DAG, and the models that all workers share."""
    home = copy_database(database, tmp_path_factory.mktemp("airflow"))
    bench = Bench(home, models, weights)
    yield bench
    if bench.warm:
        bench.warm.stop()


@pytest.fixture(scope="session")
def published(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A lake, with spaces and accents in its name, to which a successful run has published. Tests only read it."""

    def build(folder: Path) -> None:
        lake = bench.lake(folder / "mon lac été")
        outcome = bench.run(lake, folder / "run", environ=hostile_environment(folder), rerun_of=RUN_DATE, cold=True)
        (folder / "outcome.pickle").write_bytes(pickle.dumps(outcome))

    folder = build_once(tmp_path_factory, "published", build)
    return folder / "mon lac été", pickle.loads((folder / "outcome.pickle").read_bytes())


@pytest.fixture
def published_copy(published: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A copy of the published lake that a test may change."""
    lake = tmp_path / "mon lac été"
    shutil.copytree(published[0], lake)
    return lake


def hostile_environment(folder: Path) -> dict[str, str]:
    """Return this process's environment with everything that could lead to a real AWS account."""
    (folder / "config").write_text(
        "[profile rich]\nregion = us-east-1\nendpoint_url = https://elasticmapreduce.us-east-1.amazonaws.com\n"
        f"credential_process = touch '{folder}/credentials_were_asked_for'\n",
        encoding="utf-8",
    )
    (folder / "credentials").write_text("[rich]\naws_access_key_id = AKIAREAL\naws_secret_access_key = real\n")
    return os.environ | {
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real",
        "AWS_PROFILE": "rich",
        "AWS_DEFAULT_PROFILE": "rich",
        "AWS_CONFIG_FILE": str(folder / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        "AWS_ENDPOINT_URL_EMR": "https://elasticmapreduce.eu-west-3.amazonaws.com",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(folder / "credentials"),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/real",
        "BOTO_CONFIG": str(folder / "config"),
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://AKIAREAL:real@/?region_name=us-east-1",
        "AIRFLOW__CORE__DAGS_FOLDER": "/nonexistent",
        "FRUITS_PROFILE": "aws",
        "FRUITS_LAKE": "s3://somebody-elses-bucket",
    }
