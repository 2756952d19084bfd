"""`make up`: Airflow with its scheduler on this machine, used through its REST API like a person uses the UI.

The fixture checks what remains after `make down`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass

import httpx
import numpy as np
import pandas as pd
import psutil
import pytest
from sklearn.decomposition import PCA

from include.settings.parameters import RunParams
from local.emr.spark.s3_connector import connector_folder, connector_jars
from local.processes.ports import free_ports
from tests.end_to_end.conftest import DAG_ID, LIVE, snapshot
from tests.end_to_end.service.airflow_service import (
    BROKEN,
    CONF,
    PICTURES,
    ROOT,
    TIMEOUT_SECONDS,
    Service,
    command,
    is_free,
    prepare_folder,
    processes_of,
    serving,
    up,
    wait_until,
    words_of,
)
from tests.include.report_page import Page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TASKS = 14


@pytest.fixture(scope="module")
def finished(service: Service) -> str:
    """The id of a successful run with changed parameters."""
    run_id = service.trigger(CONF)
    assert service.finish(run_id) == "success", service.states(run_id)
    return run_id


@pytest.fixture(scope="module")
def first_tasks(service: Service, finished: str) -> dict[str, dict]:
    """Its tasks."""
    return service.tasks(finished)


def test_up_prints_address_user_and_password(service: Service) -> None:
    passwords = service.folder / "state" / "airflow" / "passwords.json"
    [(user, password)] = json.loads(passwords.read_text()).items()
    assert f"http://127.0.0.1:{service.port}/dags/{DAG_ID}" in service.output
    assert user in service.output
    assert password in service.output
    assert "make down" in service.output
    assert passwords.stat().st_mode & 0o777 == 0o600


def test_it_listens_on_loopback_only(service: Service) -> None:
    record = json.loads((service.folder / "state" / "service.json").read_text())
    ours = {record["pid"], *(child.pid for child in psutil.Process(record["pid"]).children(recursive=True))}
    # The system's list tolerates processes that end meanwhile, as those of finished tasks do.
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.pid in ours and connection.status == psutil.CONN_LISTEN
    }
    # A JVM listens on the same address in the notation of IPv6.
    assert "127.0.0.1" in listening
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_a_wrong_password_is_refused(service: Service) -> None:
    answer = service.client.post("/auth/token", json={"username": "admin", "password": "admin"})
    assert answer.status_code == 401
    anonymous = httpx.get(f"http://127.0.0.1:{service.port}/api/v2/dags/{DAG_ID}", trust_env=False)
    assert anonymous.status_code == 401


def test_the_dag_runs_at_midnight_or_when_triggered(service: Service, finished: str) -> None:
    """No run starts by itself; the next scheduled run is at midnight."""
    dag = service.call("GET", f"/dags/{DAG_ID}")
    assert dag["is_paused"] is False
    midnight = pd.Timestamp.now(tz="Europe/Paris").normalize() + pd.DateOffset(days=1)
    assert pd.Timestamp(dag["next_dagrun_run_after"]) == midnight
    runs = service.call("GET", f"/dags/{DAG_ID}/dagRuns")["dag_runs"]
    assert {run["run_type"] for run in runs} == {"manual"}
    form = service.call("GET", f"/dags/{DAG_ID}/details")["params"]
    assert set(form) == set(RunParams.__dataclass_fields__)
    assert form["variance_target"]["value"] == RunParams.variance_target
    refused = service.client.post(
        f"/api/v2/dags/{DAG_ID}/dagRuns", json={"logical_date": None, "conf": {"variance_target": 2}}
    )
    assert refused.status_code == 400
    assert "variance_target" in refused.text


def test_results_obey_the_parameters(service: Service, finished: str) -> None:
    results = pd.read_parquet(service.lake / "results")
    assert len(results) == PICTURES
    assert all(path.endswith("_100.jpg") for path in results["path"])
    rejects = pd.read_parquet(service.run_folder(finished) / "rejects")
    assert len(rejects) == BROKEN
    components = pd.read_csv(service.lake / "results_csv" / "pca_features.csv")
    ratios = PCA().fit(np.stack(results["features"]).astype(np.float64)).explained_variance_ratio_.cumsum()
    k = int(np.searchsorted(ratios, CONF["variance_target"])) + 1
    assert k != int(np.searchsorted(ratios, RunParams.variance_target)) + 1, "the default would give the same"
    assert list(components.columns) == [*(f"F {number}" for number in range(1, k + 1)), "label"]
    [manifest] = service.manifests(finished)
    assert manifest["run_id"] == finished
    assert {name: manifest["params"][name] for name in CONF} == CONF


def test_every_task_succeeds_at_its_first_attempt(first_tasks: dict[str, dict]) -> None:
    """A sensor that pokes too often loses an attempt by a race in Airflow's scheduler."""
    tasks = first_tasks
    assert len(tasks) == TASKS
    assert {(name, task["state"], task["try_number"]) for name, task in tasks.items()} == {
        (name, "success", 1) for name in tasks
    }


def test_the_pages_show_the_run(service: Service, finished: str) -> None:
    asked = {"dag_id": "fruit_features", "run_id": finished}
    tab = service.client.get("/fruit-reports/run", params=asked)
    name = service.run_folder(finished).name
    assert (tab.status_code, tab.headers["location"]) == (303, f"/fruit-reports/{name}/report.html")
    page = service.client.get("/fruit-reports/")
    [row] = [row for row in Page(page.text).rows if name in row[0]]
    [manifest] = service.manifests(finished)
    figures = [manifest["featurize"]["features"], *(manifest["changes"][key] for key in ("new", "changed", "gone"))]
    figures += [manifest["featurize"]["rejects"], manifest["pca"]["k"]]
    assert row[1:7] == [f"{figure:,}" for figure in figures]
    assert row[7] == f"{manifest['pca']['variance_reached']:.1%}"
    views = service.call("GET", "/plugins")["plugins"]
    assert {"nav", "dag_run"} <= {view["destination"] for plugin in views for view in plugin["external_views"]}


def test_links_lead_to_what_the_run_did(service: Service, finished: str) -> None:
    report = service.links(finished, "publish_results")["Report"]
    assert report == f"/fruit-reports/{service.run_folder(finished).name}"
    page = service.client.get(report, follow_redirects=True)
    assert page.status_code == 200
    assert f"{PICTURES}images" in Page(page.text).text
    for job in ("featurize", "pca"):
        links = service.links(finished, f"wait_{job}")
        assert links["Cluster"] == f"/fruit-reports/clusters/{cluster_of(service, finished)}"
        assert "EMR Cluster" not in links
        cluster = Page(service.client.get(str(links["Cluster"])).text)
        assert [row[0].partition(" ")[0] for row in cluster.rows[1:]] == ["featurize", "pca"]
        assert [row[1] for row in cluster.rows[1:]] == ["completed", "completed"]
        logs = service.client.get(str(links["Step logs"]))
        assert logs.status_code == 200
        assert f"progress {job}" in logs.text, "the log of the Python driver"
    anonymous = httpx.get(f"http://127.0.0.1:{service.port}{report}", trust_env=False)
    assert anonymous.status_code in {401, 403}, "pages require a login"


def test_logs_name_cluster_progress_and_publication(service: Service, finished: str) -> None:
    cluster = cluster_of(service, finished)
    assert f"Created the cluster {cluster}" in service.log(finished, "create_cluster")
    assert "progress featurize" in service.log(finished, "wait_featurize")
    assert "progress pca" in service.log(finished, "wait_pca")
    assert f"Terminating {cluster}" in service.log(finished, "terminate_cluster")
    assert f"Published {service.run_folder(finished).name} as state " in service.log(finished, "publish_results")


def cluster_of(service: Service, run_id: str) -> str:
    return service.manifests(run_id)[0]["cluster"]["id"]


@dataclass
class Cut:
    """A run that was marked failed."""

    run_id: str
    before: dict[str, str]
    """The published files before the run …"""

    after: dict[str, str]
    """… and directly after it. Other tests of the same service may publish later."""

    reaped: tuple[str, list[str]] | None = None
    """State of a run of the reaper while the step ran, and the states of the run's clusters after it."""


@pytest.fixture(scope="module")
def cut_mid_step(service: Service, finished: str) -> Cut:
    """Marked failed while featurize runs, after the reaper has run; the step would never end."""
    before = snapshot(service.lake)
    with service.faults({"steps": [{"name": "featurize*", "hangs": True}]}):
        run_id = service.trigger(CONF)
        wait_until(lambda: service.fault_matched("steps"), "featurize runs")
        wait_until(
            lambda: service.states(run_id)["wait_featurize"] == "up_for_reschedule",
            "the sensor waits for it",
            interval=1,
        )
        with service.variable("fruits_reaper_grace_minutes", "0.01"):
            reaped = service.reap()[0], service.clusters_of(run_id)
        # A poke that ends after the mark would set the state of the sensor again, a race in Airflow's API server.
        for waiting in (False, True):
            wait_until(
                lambda waiting=waiting: (service.states(run_id)["wait_featurize"] == "up_for_reschedule") is waiting,
                "the next poke has ended",
                interval=0.1,
            )
        service.mark_failed(run_id)
        service.finish(run_id)
    return Cut(run_id, before, snapshot(service.lake), reaped)


@pytest.fixture(scope="module")
def cut_in_create(service: Service, finished: str) -> Cut:
    """Marked failed while RunJobFlow is in progress: the teardown starts before the cluster exists."""
    before = snapshot(service.lake)
    with service.faults({"api": [{"action": "RunJobFlow", "delay_seconds": 10}]}):
        run_id = service.trigger(CONF)
        wait_until(lambda: service.fault_matched("api"), "the request is in progress")
        service.mark_failed(run_id)
        service.finish(run_id)
    return Cut(run_id, before, snapshot(service.lake))


def test_the_reaper_keeps_the_cluster_of_a_live_run(cut_mid_step: Cut) -> None:
    assert cut_mid_step.reaped == ("success", ["RUNNING"])


@pytest.mark.parametrize("cut_run", ["cut_mid_step", "cut_in_create"])
def test_a_run_that_is_marked_failed_leaves_no_cluster_and_publishes_nothing(
    service: Service, cut_run: str, request: pytest.FixtureRequest
) -> None:
    cut: Cut = request.getfixturevalue(cut_run)
    folder = service.run_folder(cut.run_id)
    clusters = service.clusters()
    assert clusters[f"fruit-features {folder.name}"] == "TERMINATED"
    assert not [name for name, state in clusters.items() if state in LIVE]
    assert service.manifests(cut.run_id) == []
    assert cut.after == cut.before
    assert len(cut.before) == 3


def test_a_run_that_is_marked_failed_ends_failed(service: Service, cut_mid_step: Cut, cut_in_create: Cut) -> None:
    """Airflow skips pending tasks and counts them as success; close_run fails the run and names the cause."""
    for cut, task in ((cut_mid_step, "wait_featurize"), (cut_in_create, "create_cluster")):
        assert service.state(cut.run_id) == "failed"
        states = service.states(cut.run_id)
        assert states[task] == "failed"
        assert states["publish_results"] == "skipped"
        assert states["terminate_cluster"] == "success"
        assert states["close_run"] == "failed"
        assert f"failed: {task}; not run: add_" in service.log(cut.run_id, "close_run")
    assert "a cluster named fruit-features" in service.log(cut_in_create.run_id, "terminate_cluster")
    assert "Cancelled s-" in service.log(cut_mid_step.run_id, "terminate_cluster")


def test_a_second_up_is_refused(service: Service) -> None:
    again = up(service.folder, free_ports(1)[0])
    assert again.returncode == 2
    assert f"it runs already, at http://127.0.0.1:{service.port}" in again.stdout


def test_make_run_is_refused_meanwhile(service: Service) -> None:
    run = [sys.executable, "-m", "local.run", "--state", str(service.folder / "state")]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert done.returncode == 2
    assert f"is working in {service.folder / 'state'}" in done.stdout
    assert "`make down` ends it" in done.stdout


@pytest.mark.soak
@pytest.mark.timeout(2400)
def test_after_sigkill_nothing_keeps_running_and_it_starts_again(bench, database, tmp_path) -> None:
    """SIGKILL for the supervisor, then for the supervisor and its guards."""
    prepare_folder(tmp_path, bench.models, database)
    port = free_ports(1)[0]
    for with_guards in (False, True):
        with serving(tmp_path, port):
            supervisor = psutil.Process(json.loads((tmp_path / "state" / "service.json").read_text())["pid"])
            guards = [child for child in supervisor.children() if "guard.py" in " ".join(child.cmdline())]
            assert len(guards) == 4
            for process in [supervisor, *(guards if with_guards else [])]:
                process.send_signal(signal.SIGKILL)
            if with_guards:
                ended = command("down", tmp_path)
                assert ended.returncode == 0, ended.stdout
            wait_until(lambda: processes_of(tmp_path) == [], "everything has stopped", 60)
            assert is_free(port)
    with serving(tmp_path, port) as service:  # without `make down` after the first kill
        assert service.finish(service.trigger(CONF)) == "success"


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_component_that_stops_is_restarted_and_the_run_continues(bench, database, tmp_path) -> None:
    prepare_folder(tmp_path, bench.models, database)
    with serving(tmp_path, free_ports(1)[0]) as service:
        run_id = service.trigger(CONF)
        wait_until(lambda: service.states(run_id)["wait_featurize"] == "up_for_reschedule", "the step runs", interval=1)
        supervisor = psutil.Process(json.loads((tmp_path / "state" / "service.json").read_text())["pid"])
        killed = [
            process
            for process in supervisor.children(recursive=True)
            if {"scheduler", "dag-processor"} & set(words := words_of(process)) and "-I" not in words
        ]
        assert len(killed) >= 2
        for process in killed:
            process.kill()
        assert service.finish(run_id) == "success", service.states(run_id)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_on_the_s3_store(bench, database, tmp_path) -> None:
    """The lake is in a bucket; `make down` and `make up` keep its content."""
    if not connector_jars(connector_folder()):
        pytest.skip("Spark's S3 connector is not in this environment: `make setup STORE=s3`")
    prepare_folder(tmp_path, bench.models, database)
    for round_number in range(2):
        with serving(tmp_path, free_ports(1)[0], "--store", "s3", "--lake", "s3://fruits") as service:
            runs = service.call("GET", f"/dags/{DAG_ID}/dagRuns")["dag_runs"]
            assert [run["state"] for run in runs] == ["success"] * round_number, "down keeps the database"
            if round_number == 0:
                run_id = service.trigger(CONF)
                assert service.finish(run_id) == "success", service.states(run_id)
            report = service.links(runs[0]["dag_run_id"] if runs else run_id, "publish_results")["Report"]
            page = service.client.get(str(report), follow_redirects=True)
            assert f"{PICTURES}images" in Page(page.text).text
