"""What is running, as Airflow's database has it, and clusters, as EMR describes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.include.hostile_names import HOSTILE
from tests.include.pages.conftest import OLDER, SLUG, Browser, write_file
from tests.include.report_page import Page

pytestmark = pytest.mark.slow

RUN_ID = "manual__2026-11-22T12:00:00.123+00:00"
START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def address(run_id: str = RUN_ID, dag_id: str = "fruit_features") -> str:
    return f"/run?dag_id={quote(dag_id, safe='')}&run_id={quote(run_id, safe='')}"


def airflow_run(**changes: Any) -> Any:
    from include.pages.airflow_runs import AirflowRun, Task

    tasks = (
        Task("open_run", "success", START, START),
        Task("wait_featurize", "up_for_reschedule", START, None),
        Task("close_run", None, None, None),
    )
    run = {"run_id": RUN_ID, "state": "running", "run_after": START, "started_at": START, "slug": SLUG}
    return AirflowRun(**{**run, "cluster": "j-1", "tasks": tasks, **changes})


@pytest.mark.usefixtures("lake")
def test_the_tab_of_a_run_that_has_ended_is_its_report(user: Browser, airflow_runs: dict[str, Any]) -> None:
    for state in ("success", "failed"):
        airflow_runs[RUN_ID] = airflow_run(state=state)
        response = user.get(address())
        assert (response.status_code, response.headers["location"]) == (303, f"/fruit-reports/{SLUG}/report.html")
    airflow_runs[RUN_ID] = airflow_run(state="success", slug="20990101T000000Z-00000000")
    assert "This run has no report" in user.get(address()).text


@pytest.mark.usefixtures("lake")
def test_the_tab_of_a_run_that_is_active_shows_its_tasks_although_an_older_attempt_has_a_report(
    user: Browser, airflow_runs: dict[str, Any]
) -> None:
    airflow_runs[RUN_ID] = airflow_run()
    page = Page(user.get(address()).text)
    assert "open_run success" in page.text
    assert "wait_featurize up for reschedule" in page.text
    assert "close_run" not in page.text
    attributes = dict(page.attributes)
    assert attributes["data-source"] == f"/fruit-reports{address()}"
    assert attributes["data-seconds"] == "5"
    assert f"/fruit-reports{address()}" in [value for name, value in page.attributes if name == "href"]


def progress_record(**changes: Any) -> dict[str, Any]:
    """What featurize has published after 8 seconds."""
    moments = {"started_at": "2026-11-22T12:10:00+00:00", "updated_at": "2026-11-22T12:10:08+00:00"}
    figures = {"job": "featurize", "stage": "featurize", "done": 1_000, "total": 6_000, "unit": "images", "rejects": 3}
    return {**figures, **moments, **changes}


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (
            progress_record(),
            "featurize 1,000 of 6,000 images, 16 % · 125.0 per second · about 40 s left · 3 rejected so far",
        ),
        (progress_record(done=0, rejects=None), "featurize 0 of 6,000 images, 0 %"),
        (progress_record(total=0, done=0, rejects=0), "featurize 0 of 0 images, 100 % · 0 rejected so far"),
        (progress_record(updated_at="2026-11-22T11:59:59+00:00"), None),
        (progress_record(done="<script>"), None),
        ({}, None),
        ([1], None),
        (None, None),
    ],
    ids=["rate", "none done", "nothing to do", "of an older attempt", "damaged", "empty", "no record", "no file"],
)
def test_the_progress_of_the_step_that_runs_is_shown(
    user: Browser, airflow_runs: dict[str, Any], lake: Path, record: Any, shown: str | None
) -> None:
    from include.pages.airflow_runs import Task

    tasks = [Task("add_featurize", "success", START, START), Task("wait_featurize", "up_for_reschedule", START, None)]
    airflow_runs[RUN_ID] = airflow_run(tasks=tuple(tasks))
    if record is not None:
        write_file(lake / "runs" / SLUG / "progress" / "featurize.json", json.dumps(record))
    write_file(lake / "runs" / SLUG / "progress" / "pca.json", json.dumps(progress_record(stage="pca-scores")))
    for path in (address(), "/live", "/"):
        page = Page(user.get(path).text)
        assert ("progress" in page.tags) is (shown is not None)
        assert (shown or "Now running") in page.text
        assert "pca-scores" not in page.text


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_progress_changes_nothing_but_the_text(
    user: Browser, airflow_runs: dict[str, Any], lake: Path, name: str
) -> None:
    from include.pages.airflow_runs import Task

    tasks = [Task("add_pca", "success", START, START), Task("wait_pca", "running", START, None)]
    airflow_runs[RUN_ID] = airflow_run(tasks=tuple(tasks))
    pages = []
    for text in ("plain", name):
        record = progress_record(stage=text, unit=text)
        write_file(lake / "runs" / SLUG / "progress" / "pca.json", json.dumps(record))
        pages.append(Page(user.get("/live").text))
    plain, page = pages
    assert (page.tags, page.contents, page.attributes) == (plain.tags, plain.contents, plain.attributes)
    assert page.text.count(name) == 2


@pytest.mark.usefixtures("lake")
def test_the_table_of_runs_asks_for_what_is_running(user: Browser, airflow_runs: dict[str, Any]) -> None:
    attributes = dict(Page(user.get("/").text).attributes)
    assert (attributes["data-source"], attributes["data-seconds"]) == ("/fruit-reports/live", "30")
    airflow_runs[RUN_ID] = airflow_run()
    shown, asked = (dict(Page(user.get(path).text).attributes) for path in ("/", "/live"))
    assert asked["data-runs"] == shown["data-runs"] == f"{RUN_ID} running "
    assert asked["data-seconds"] == "5"


@pytest.mark.usefixtures("lake")
def test_the_tab_of_another_dag_and_of_an_unknown_run_say_so(user: Browser) -> None:
    response = user.get(address(dag_id="fruit_reaper"))
    assert response.status_code == 200
    assert "Runs of fruit_reaper have no report here" in Page(response.text).text
    assert user.get(address("unknown")).status_code == 404


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_ids_change_nothing_but_the_text(user: Browser, airflow_runs: dict[str, Any], name: str) -> None:
    name = name[:200]
    airflow_runs |= {"plain": airflow_run(run_id="plain"), name: airflow_run(run_id=name)}
    pairs = [
        (user.get(address("plain")), user.get(address(name))),
        (user.get(address(dag_id="x")), user.get(address(dag_id=name))),
        (user.get(address("none"), Accept="text/html"), user.get(address(f"no {name}"), Accept="text/html")),
    ]
    for plain, hostile in pairs:
        expected, page = Page(plain.text), Page(hostile.text)
        assert (page.tags, page.contents) == (expected.tags, expected.contents)
        assert [attribute for attribute, _ in page.attributes] == [attribute for attribute, _ in expected.attributes]
        assert name in page.text


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A database with Airflow's tables, which the pages read instead of Airflow's own; what opens a session with it."""
    from airflow.models import import_all_models
    from airflow.models.base import metadata
    from sqlalchemy import create_engine, text
    from sqlalchemy.orm import Session

    from include.pages import airflow_runs

    import_all_models()
    engine = create_engine(f"sqlite:///{tmp_path}/airflow.db")
    metadata.create_all(engine)

    @contextmanager
    def create_session() -> Iterator[Session]:
        with Session(engine) as session:
            session.execute(text("PRAGMA foreign_keys = OFF"))
            yield session
            session.commit()

    monkeypatch.setattr(airflow_runs, "create_session", create_session)
    yield create_session
    engine.dispose()


def test_runs_are_read_from_airflows_database(database: Any) -> None:
    from sqlalchemy import text

    from include.pages.airflow_runs import active_runs, find_run

    moments = {"now": START.isoformat(" "), "later": (START + timedelta(minutes=1)).isoformat(" ")}
    with database() as session:
        for number, (dag, run_id, state) in enumerate(
            [("fruit_features", RUN_ID, "running"), ("fruit_features", "old", "success"), ("other", "x", "running")], 1
        ):
            values = {"id": number, "dag": dag, "run": run_id, "state": state, **moments}
            session.execute(
                text(
                    "INSERT INTO dag_run (id, dag_id, run_id, state, run_type, run_after, start_date, log_template_id, "
                    "clear_number, span_status) VALUES (:id, :dag, :run, :state, 'manual', :now, :now, 1, 0, 'x')"
                ),
                values,
            )
        instances = [("open_run", "success", "now"), ("find_changes", "running", "later"), ("close_run", None, None)]
        for task, state, start in instances:
            values = {"id": uuid4().hex, "task": task, "run": RUN_ID, "state": state}
            values["start"] = moments.get(start or "")
            session.execute(
                text(
                    "INSERT INTO task_instance (id, task_id, dag_id, run_id, map_index, state, start_date, max_tries, "
                    "pool, pool_slots, try_number, task_display_name) VALUES (:id, :task, 'fruit_features', :run, -1, "
                    ":state, :start, 0, 'x', 1, 1, :task)"
                ),
                values,
            )
        for id_, run_id, key, task, value in (
            (1, RUN_ID, "run", "find_changes", SLUG),
            (1, RUN_ID, "job_flow_id", "create_cluster", "j-1"),
            (2, "old", "run", "close_run", OLDER),
        ):
            session.execute(
                text(
                    "INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value, timestamp) VALUES "
                    "(:id, :task, -1, :key, 'fruit_features', :run, :value, :now)"
                ),
                {"id": id_, "task": task, "key": key, "run": run_id, "value": f'"{value}"', "now": moments["now"]},
            )
    [run] = active_runs()
    assert (run.run_id, run.state, run.slug, run.cluster, run.is_active) == (RUN_ID, "running", SLUG, "j-1", True)
    assert [(task.id, task.state) for task in run.tasks] == [(task, state) for task, state, _ in instances]
    assert run.started_at == START
    old = find_run("old")
    assert old is not None
    assert (old.is_active, old.cluster, old.tasks) == (False, None, ())
    assert old.slug == OLDER, "find_changes has failed, and close_run has written the report"
    assert find_run("x") is None, "a run of another DAG"


def described(lake: Path, **changes: Any) -> dict[str, Any]:
    from include.cluster.tags import encode_tag

    tags = {"project": "fruit-features", "fruit-features:lake": encode_tag(f"file://{lake}")}
    timeline = {"CreationDateTime": START, "ReadyDateTime": START + timedelta(minutes=5)}
    return {
        "Id": "j-1",
        "Name": "fruit-features x",
        "ReleaseLabel": "emr-spark-8.1.0",
        "Status": {"State": "RUNNING", "StateChangeReason": {}, "Timeline": timeline},
        "Tags": [{"Key": key, "Value": value} for key, value in (tags | changes).items()],
    }


def step(id_: str, name: str, state: str, minutes: int | None = None, reason: str = "") -> dict[str, Any]:
    timeline = {} if minutes is None else {"StartDateTime": START + timedelta(minutes=minutes)}
    if state != "RUNNING" and timeline:
        timeline["EndDateTime"] = timeline["StartDateTime"] + timedelta(seconds=90)
    status = {"State": state, "Timeline": timeline, "FailureDetails": {"Reason": reason}}
    return {"Id": id_, "Name": name, "Status": status}


@pytest.fixture
def emr(monkeypatch: pytest.MonkeyPatch, lake: Path) -> Any:
    """A stand-in of EMR that answers with a described cluster and steps."""
    from include.pages import clusters

    class Emr:
        cluster = described(lake)
        steps = [step("s-2", "pca", "PENDING"), step("s-1", "featurize", "COMPLETED", 6)]  # noqa: RUF012

        def describe(self, _: str) -> dict[str, Any]:
            return self.cluster

        def list_all(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
            return self.steps

    found = Emr()
    monkeypatch.setattr(clusters, "create_hook", lambda _: None)
    monkeypatch.setattr(clusters, "open_emr", lambda *_: found)
    return found


def test_the_page_of_a_cluster_shows_its_steps_in_their_order_and_leads_to_their_logs(user: Browser, emr: Any) -> None:
    page = Page(user.get("/clusters/j-1").text)
    assert [row[1:4] for row in page.rows[1:]] == [
        ["completed", "2026-11-22 12:06 UTC", "1 min 30 s"],
        ["pending", "—", "—"],
    ]
    links = [value for name, value in page.attributes if name == "href"]
    assert links == ["/fruit-reports/", "/fruit-reports/logs/j-1/s-1", "/fruit-reports/logs/j-1/s-2"]
    assert "local EMR endpoint" in page.text


def test_a_cluster_on_aws_has_the_address_of_the_console_and_a_local_one_has_not(lake: Path) -> None:
    from dataclasses import replace

    from include.pages.clusters import build_cluster
    from include.settings.deployment import read_settings

    settings = read_settings()
    assert build_cluster(described(lake), [], settings, START).console is None
    on_aws = build_cluster(described(lake), [], replace(settings, profile="aws"), START)
    assert on_aws.console is not None
    assert on_aws.console.startswith("https://eu-west-3.console.aws.amazon.com/")


@pytest.mark.parametrize("changes", [{"project": "another"}, {"fruit-features:lake": "s3://another-lake"}])
def test_clusters_of_others_are_refused(user: Browser, emr: Any, lake: Path, changes: dict[str, str]) -> None:
    emr.cluster = described(lake, **changes)
    response = user.get("/clusters/j-1")
    assert response.status_code == 404
    assert "is not one of the lake" in response.json()["detail"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_of_clusters_and_steps_change_nothing_but_the_text(user: Browser, emr: Any, name: str) -> None:
    emr.steps = [step("s-1", "plain", "FAILED", 6, "plain")]
    plain = Page(user.get("/clusters/j-1").text)
    emr.cluster["Name"], emr.steps = name, [step("s-1", name, "FAILED", 6, name)]
    page = Page(user.get("/clusters/j-1").text)
    assert (page.tags, page.contents) == (plain.tags, plain.contents)
    assert page.attributes == plain.attributes
    assert page.text.count(name) == 3
