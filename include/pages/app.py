"""The pages: their addresses, and what each one reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import markupsafe
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import Depends, HTTPException, Path, Query
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse

from include.autopsy.examination import STREAMS, read_log_tail, step_log_uri
from include.autopsy.reading import normalize_root
from include.aws.endpoints import EndpointRefusedError
from include.lake.layout import SLUG, Lake
from include.lake.objects import LakePath
from include.pages.airflow_runs import AirflowRun, active_runs, find_run
from include.pages.clusters import UnknownClusterError, read_cluster
from include.pages.files import read_blocks, reject_files, rejects_as_csv
from include.pages.guard import READ_LOGS, UNTRUSTED, create_app
from include.pages.overview import COLUMNS, build_rows, draw_trends
from include.pages.progress import read_progress
from include.pages.rendering import render_page
from include.reports.history import read_reports
from include.reports.policy import within_airflow
from include.reports.report import report_policies
from include.settings.addresses import page_path
from include.settings.dag_ids import FEATURES_DAG
from include.settings.deployment import Settings, SettingsError, read_airflow_settings

log = logging.getLogger(__name__)

MAX_RUNS = 100
"""Number of runs in the table; each is one small file to read."""

CLUSTER, STEP = r"^j-[A-Z0-9]{1,32}$", r"^s-[A-Z0-9]{1,32}$"
LIST = r"^[a-z_]{1,32}$"
MAX_ID = 250
"""Airflow's limit for the ids of DAGs and runs."""

LOG_LINES = 5_000
MISSING = "not there: EMR writes a log minutes after its step; other places are read only if FRUITS_LOGS names them"
GONE = "it was never written, or deleted: {0} is not one of the last {1} published states, or an erasure replaced it"

REFRESH_SECONDS, IDLE_SECONDS = 5, 30
"""How often a page asks for what is running: while something is, and while nothing is."""

app = create_app("Fruit features")


def _settings() -> Settings:
    """Return the settings of the deployment, which name the lake."""
    try:
        settings = read_airflow_settings()
        Lake(settings.lake_root)
    except SettingsError as error:
        raise HTTPException(status_code=503, detail=str(error)) from error
    return settings


def _active_runs() -> Sequence[AirflowRun]:
    return active_runs()


def _run_of(run_id: Annotated[str, Query(max_length=MAX_ID)]) -> AirflowRun | None:
    return find_run(run_id)


CurrentSettings = Annotated[Settings, Depends(_settings)]
ActiveRuns = Annotated[Sequence[AirflowRun], Depends(_active_runs)]
FoundRun = Annotated[AirflowRun | None, Depends(_run_of)]
Slug = Annotated[str, Path(pattern=SLUG)]


@app.get("/")
def show_overview(settings: CurrentSettings, active: ActiveRuns) -> HTMLResponse:
    """Return the table of runs, with those that are running."""
    reports = read_reports(Lake(settings.lake_root), settings.aws_conn_id, MAX_RUNS)
    rows = build_rows(reports)
    return render_page(
        "overview.html.jinja",
        columns=COLUMNS,
        rows=rows,
        trends=draw_trends(rows),
        most=MAX_RUNS,
        **_live(active, settings),
    )


@app.get("/live")
def show_active_runs(settings: CurrentSettings, active: ActiveRuns) -> HTMLResponse:
    """Return what is running, for the table of runs, which asks for it again and again."""
    return render_page("live_page.html.jinja", **_live(active, settings))


@app.get("/run")
def show_run(
    settings: CurrentSettings, run: FoundRun, dag_id: Annotated[str, Query(max_length=MAX_ID)], run_id: str
) -> Response:
    """Return the report of an Airflow run, or what it is doing; this is the tab on the run's own page."""
    if dag_id != FEATURES_DAG:
        return render_page("other_dag.html.jinja", dag_id=dag_id, features_dag=FEATURES_DAG)
    if run is None:
        raise HTTPException(status_code=404, detail=f"Airflow has no run {run_id} of {FEATURES_DAG}")
    lake = Lake(settings.lake_root)
    if not run.is_active and run.slug and LakePath(lake.run(run.slug).report_html, settings.aws_conn_id).exists():
        return RedirectResponse(page_path(f"{run.slug}/report.html"), status_code=303)
    source = f"run?dag_id={quote(dag_id, safe='')}&run_id={quote(run_id, safe='')}"
    return render_page("run.html.jinja", run=run, **_live([run], settings) | {"source": page_path(source)})


def _live(runs: Sequence[AirflowRun], settings: Settings) -> dict[str, Any]:
    """Return what the template of running runs shows."""
    is_active = any(run.is_active for run in runs)
    lake = Lake(settings.lake_root)
    progress = {run.run_id: read_progress(lake, run, settings.aws_conn_id) for run in runs if run.is_active}
    return {
        "active": runs,
        "progress": progress,
        "source": page_path("live"),
        "refresh": REFRESH_SECONDS if is_active else IDLE_SECONDS,
    }


@app.get("/{slug}")
def find_report(slug: Slug) -> RedirectResponse:
    """Redirect to a run's report, whose links to the lists beside it are relative."""
    return RedirectResponse(f"{slug}/report.html")


@app.get("/{slug}/report.html")
def show_report(slug: Slug, settings: CurrentSettings) -> HTMLResponse:
    """Return a run's report.

    Nodes of a cluster may write into the folder of a run. So a page with other scripts than those of this version, such
    as one of an earlier version, gets an origin of its own.
    """
    report = LakePath(Lake(settings.lake_root).run(slug).report_html, settings.aws_conn_id)
    try:
        text = report.read_bytes().decode()
    except FileNotFoundError:
        detail = f"the run {slug} has no report: it has not ended, had nothing to do, or does not exist"
        raise HTTPException(status_code=404, detail=detail) from None
    own = [policy for policy in report_policies() if f'content="{markupsafe.escape(policy)}"' in text]
    policy = within_airflow(own[0]) if own else UNTRUSTED
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


@app.get("/{slug}/pca/insights/{name}.csv")
def download_list(slug: Slug, name: Annotated[str, Path(pattern=LIST)], settings: CurrentSettings) -> StreamingResponse:
    """Return one of the lists of photos beside a run's report."""
    root = Lake(settings.lake_root).run(slug).root
    return _download(LakePath(f"{root}/pca/insights/{name}.csv", settings.aws_conn_id), slug, f"{name}.csv", settings)


@app.get("/{slug}/pca_features.csv")
def download_scores(slug: Slug, settings: CurrentSettings) -> StreamingResponse:
    """Return the principal components of a run, in the notebook's format."""
    path = LakePath(Lake(settings.lake_root).run(slug).csv, settings.aws_conn_id)
    return _download(path, slug, f"pca_features-{slug}.csv", settings)


@app.get("/{slug}/rejects.csv")
def download_rejects(slug: Slug, settings: CurrentSettings) -> StreamingResponse:
    """Return the files without features of a run's state, with the reasons."""
    try:
        files = reject_files(Lake(settings.lake_root), slug, settings.aws_conn_id)
    except FileNotFoundError:
        raise _not_there(slug, "rejects.csv", settings) from None
    except ValueError as error:
        raise HTTPException(status_code=500, detail=str(error)) from error
    return _stream(rejects_as_csv(files), f"rejects-{slug}.csv")


def _download(path: LakePath, slug: str, name: str, settings: Settings) -> StreamingResponse:
    size = path.size()
    if size is None:
        raise _not_there(slug, path.name, settings)
    response = _stream(read_blocks(path), name)
    response.headers["Content-Length"] = str(size)
    return response


def _not_there(slug: str, name: str, settings: Settings) -> HTTPException:
    why = GONE.format(slug, settings.kept_states)
    return HTTPException(status_code=404, detail=f"the run {slug} has no {name}: {why}")


def _stream(blocks: Iterator[bytes], name: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(blocks, media_type="text/csv; charset=utf-8", headers=headers)


@app.get("/clusters/{cluster}")
def show_cluster(cluster: Annotated[str, Path(pattern=CLUSTER)], settings: CurrentSettings) -> HTMLResponse:
    """Return the state of a cluster and its steps, with links to their logs."""
    try:
        return render_page("cluster.html.jinja", cluster=read_cluster(cluster, settings))
    except UnknownClusterError as error:
        raise HTTPException(status_code=404, detail=str(error)) from error
    except (BotoCoreError, ClientError, EndpointRefusedError) as error:
        log.warning("EMR did not describe %s: %s", cluster, error)
        raise HTTPException(status_code=502, detail=f"EMR does not answer: {error}") from error


@app.get("/logs/{cluster}/{step}", dependencies=[Depends(READ_LOGS)])
def show_step_logs(
    cluster: Annotated[str, Path(pattern=CLUSTER)],
    step: Annotated[str, Path(pattern=STEP)],
    settings: CurrentSettings,
) -> PlainTextResponse:
    """Return the last lines of a step's logs.

    The cluster wrote them where ``FRUITS_LOGS`` pointed when it was created, by default into the lake: both are read.
    """
    roots = list(dict.fromkeys(normalize_root(root) for root in (settings.logs, Lake(settings.lake_root).logs) if root))
    parts = [_read_log(roots, cluster, step, stream, settings.aws_conn_id) for stream in reversed(STREAMS)]
    return PlainTextResponse("\n\n".join(parts) + "\n")


def _read_log(roots: list[str], cluster: str, step: str, stream: str, aws_conn_id: str | None) -> str:
    """Return the last lines of one log under its URI; if no root has it, every URI with the reason."""
    missing = []
    for root in roots:
        uri = step_log_uri(root, cluster, step, stream)
        try:
            tail = read_log_tail(uri, aws_conn_id, LOG_LINES)
        except Exception as error:  # denied, for example: the page shows the reason and the other log
            missing.append(f"==== {uri}\n(cannot be read: {type(error).__name__}: {error})")
            continue
        if tail is not None:
            return f"==== {uri}\n{tail}"
        missing.append(f"==== {uri}\n({MISSING})")
    return "\n".join(missing)
