"""The report of a failed run, which ``close_run`` writes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Context

from include.autopsy.task_failure import describe_error
from include.cluster.request import cluster_name
from include.lake.layout import Lake, run_slug
from include.lake.objects import LakePath, read_json, write_bytes, write_json
from include.records import ATTESTATION, CLUSTER_ID, FAILURE, Attestation, FailureReport, Report, Run, TaskFailure
from include.reports.publishing import write_report
from include.reports.report import add_failures, render_failure, report_line
from include.residency.preflight import check_residency
from include.settings.deployment import Settings, SettingsError, read_airflow_settings
from include.settings.parameters import RunParams

log = logging.getLogger(__name__)

CREATORS = ("add_pca", "add_featurize", "create_cluster")
"""The tasks that may create a cluster, the last one first."""


@dataclass(frozen=True)
class _Outcome:
    """The tasks of a run when it ends: their states and their XComs."""

    ti: Any
    states: Mapping[str, str]

    def xcom(self, task: str, key: str = "return_value") -> Any:
        """Return an XCom of a task; None if the task has not run: its XCom would be from before it was cleared."""
        return self.ti.xcom_pull(task_ids=task, key=key) if self.states.get(task) in ("success", "failed") else None

    def failures(self) -> list[TaskFailure]:
        """Return why each failed task failed."""
        failed = sorted(task for task, state in self.states.items() if state == "failed")
        causes = [(task, self.xcom(task, FAILURE) or describe_error(None)) for task in failed]
        return [
            {"task": task, "kind": why["kind"], "cause": why["cause"], "advice": why["advice"]} for task, why in causes
        ]


def report_failure(context: Context, states: Mapping[str, str], not_run: Sequence[str]) -> None:
    """Write the report of a failed run: the failed tasks, their causes, and what is published still. Never raises.

    If the results of the run are published nevertheless (``terminate_cluster`` may fail after ``publish_results`` has
    succeeded), the failed tasks are added to the report that exists. If ``open_run`` has failed, the residency of the
    lake is checked again first: nothing is written to a place that may be outside the allowed regions.

    Parameters
    ----------
    context : Context
        Airflow's context of ``close_run``.
    states : dict
        States of the run's other tasks.
    not_run : list of str
        The tasks that have neither succeeded nor failed, each with its state.
    """
    try:
        uri = _write(context, _Outcome(context["ti"], states), not_run)
    except Exception:
        log.exception("The report of the failed run cannot be written")
    else:
        log.info("The report of the failed run is at %s", uri)


def _write(context: Context, outcome: _Outcome, not_run: Sequence[str]) -> str:
    settings = read_airflow_settings()
    conn = settings.aws_conn_id
    run: Run | None = outcome.xcom("open_run")
    lake = Lake(run["lake"] if run else settings.lake_root)
    before = run["residency"] if run else check_residency(settings, lake)
    dag_run = context["dag_run"]
    slug = outcome.xcom("find_changes", "run") or run_slug(dag_run.run_id, dag_run.run_after)
    locations = lake.run(slug)
    published = _read(lake.current, conn).get("run")
    report: Report | FailureReport
    if published == slug and (written := _read(locations.report_json, conn)):
        report = add_failures(written, outcome.failures())  # type: ignore[arg-type]
        write_report(lake, report, conn)
    else:
        report = _build(context, slug, outcome, not_run, settings, lake, before, published)
        write_json(LakePath(locations.report_json, conn), report)
        write_bytes(LakePath(locations.report_html, conn), render_failure(report).encode())
    write_bytes(LakePath(lake.report(slug), conn), report_line(report))
    context["ti"].xcom_push(key="run", value=slug)  # for the link to the report
    return locations.report_html


def _build(
    context: Context,
    slug: str,
    outcome: _Outcome,
    not_run: Sequence[str],
    settings: Settings,
    lake: Lake,
    before: Attestation,
    published: str | None,
) -> FailureReport:
    dag_run, run = context["dag_run"], outcome.xcom("open_run")
    featurize = _read(lake.run(slug).featurize_summary, settings.aws_conn_id)
    left_out = featurize.get("left_out", [])
    clusters = [outcome.xcom(task, CLUSTER_ID) for task in CREATORS]
    attestations = [outcome.xcom(task, ATTESTATION) for task in CREATORS]
    cluster_attestation = next(filter(None, attestations), None)
    return {
        "run": slug,
        "run_id": dag_run.run_id,
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": "failed",
        "failed_tasks": outcome.failures(),
        "tasks_not_run": list(not_run),
        "published_run": published,
        "profile": settings.profile,
        "region": settings.region,
        "images_folder": run["images"] if run else None,
        "params": run["params"] if run else _params(context),
        "code": outcome.xcom("plan_cluster", "code"),
        "model": run["model"] if run else None,
        "cluster": {"id": next(filter(None, clusters), ""), "name": run["cluster_name"] if run else cluster_name(slug)},
        "images": featurize.get("features"),
        "rejects": featurize.get("rejects"),
        "rejects_by_reason": featurize.get("rejects_by_reason", {}),
        "first_rejects": featurize.get("first_rejects", []),
        "skipped": sum(item["skipped"] for item in left_out) if featurize else None,
        "hidden": sum(item["hidden"] for item in left_out) if featurize else None,
        "left_out": left_out,
        "attestations": [before, *([cluster_attestation] if cluster_attestation else [])],
        "forecast": outcome.xcom("plan_cluster", "forecast"),
        "cost": outcome.xcom("report_cost"),
    }


def _params(context: Context) -> dict[str, Any] | None:
    """Return the run's parameters; None if they are wrong, because the table of all reports has typed columns."""
    try:
        return asdict(RunParams.from_params(dict(context["params"])))
    except SettingsError:
        return None


def _read(uri: str, aws_conn_id: str | None) -> dict[str, Any]:
    """Return a JSON file of the lake; an empty dict if it does not exist or is damaged."""
    try:
        return dict(read_json(LakePath(uri, aws_conn_id), "a task of the run writes it"))
    except (FileNotFoundError, ValueError):
        return {}
