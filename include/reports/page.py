"""The web application with the reports and the steps' logs, behind Airflow's login."""

from __future__ import annotations

import re
from typing import Annotated

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Path
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from include.autopsy.examination import STREAMS, read_log_tail, step_log_uri
from include.autopsy.reading import normalize_root
from include.lake.layout import SLUG, Lake
from include.lake.objects import LakePath
from include.reports.report import render_index
from include.settings.dag_ids import FEATURES_DAG
from include.settings.deployment import Settings, SettingsError, read_airflow_settings

MAX_RUNS = 200
"""Number of runs on the index page."""

CLUSTER, STEP = r"^j-[A-Z0-9]{1,32}$", r"^s-[A-Z0-9]{1,32}$"
LIST = r"^[a-z_]{1,32}$"
LOG_LINES = 5_000
MISSING = "not there: EMR writes a log minutes after its step; other places are read only if FRUITS_LOGS names them"

# Airflow mounts a plugin's application without authentication. This dependency adds it to every route.
app = FastAPI(
    title="Fruit reports",
    dependencies=[
        Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN, param_dag_id=FEATURES_DAG))
    ],
)


def _settings() -> Settings:
    """Return the settings of the deployment, which name the lake."""
    try:
        settings = read_airflow_settings()
        Lake(settings.lake_root)
    except SettingsError as error:
        raise HTTPException(status_code=503, detail=str(error)) from error
    return settings


def _lake() -> tuple[Lake, str | None]:
    """Return the lake and Airflow's connection for it."""
    settings = _settings()
    return Lake(settings.lake_root), settings.aws_conn_id


@app.get("/", response_class=HTMLResponse)
def list_reports() -> str:
    """Return a page with the newest runs that have a report."""
    lake, conn = _lake()
    names = LakePath(lake.runs, conn).names()
    slugs = [name for name in reversed(names) if re.match(SLUG, name)][:MAX_RUNS]
    return render_index([slug for slug in slugs if LakePath(lake.run(slug).report_html, conn).exists()])


@app.get("/{slug}")
def find_report(slug: Annotated[str, Path(pattern=SLUG)]) -> RedirectResponse:
    """Redirect to a run's report, whose links to the lists beside it are relative."""
    return RedirectResponse(f"{slug}/report.html")


@app.get("/{slug}/pca/insights/{name}.csv")
def show_list(slug: Annotated[str, Path(pattern=SLUG)], name: Annotated[str, Path(pattern=LIST)]) -> Response:
    """Return one of the lists of photos beside a run's report."""
    lake, conn = _lake()
    path = LakePath(f"{lake.run(slug).root}/pca/insights/{name}.csv", conn)
    if not path.exists():
        raise HTTPException(status_code=404, detail=f"the run {slug} has no list {name}")
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"', "X-Content-Type-Options": "nosniff"}
    return Response(path.read_bytes(), media_type="text/csv; charset=utf-8", headers=headers)


@app.get("/{slug}/report.html", response_class=HTMLResponse)
def show_report(slug: Annotated[str, Path(pattern=SLUG)]) -> str:
    """Return a run's report."""
    lake, conn = _lake()
    report = LakePath(lake.run(slug).report_html, conn)
    if not report.exists():
        raise HTTPException(
            status_code=404, detail=f"the run {slug} has no report: it has not ended, or does not exist"
        )
    return report.read_bytes().decode()


@app.get("/logs/{cluster}/{step}", response_class=PlainTextResponse)
def show_step_logs(
    cluster: Annotated[str, Path(pattern=CLUSTER)], step: Annotated[str, Path(pattern=STEP)]
) -> PlainTextResponse:
    """Return the last lines of a step's logs.

    The cluster wrote them where ``FRUITS_LOGS`` pointed when it was created, by default into the lake: both are read.
    """
    settings = _settings()
    roots = list(dict.fromkeys(normalize_root(root) for root in (settings.logs, Lake(settings.lake_root).logs) if root))
    parts = [_read_log(roots, cluster, step, stream, settings.aws_conn_id) for stream in reversed(STREAMS)]
    return PlainTextResponse("\n\n".join(parts) + "\n", headers={"X-Content-Type-Options": "nosniff"})


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
