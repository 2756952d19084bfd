"""The first and the last task of a run: ``open_run`` and ``close_run``."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from include.cluster.request import cluster_name
from include.lake.access import check_access
from include.lake.layout import Lake, run_slug
from include.lake.models import find_model
from include.lake.publication import find_previous
from include.lake.uploads import STALE, abort_uploads
from include.records import FoundChanges, Run
from include.residency.preflight import check_residency
from include.settings.deployment import read_airflow_settings
from include.settings.parameters import RunParams
from include.tasks.failed_run import report_failure
from include.tasks.failures import without_retry
from include.tasks.unchanged_run import report_unchanged

log = logging.getLogger(__name__)


@without_retry
def open_run() -> Run:
    """Identify the run, and check its settings, parameters and inputs before anything costs money.

    Raises
    ------
    AirflowFailException
        If a setting or parameter is missing or wrong, a client resolves to an address that the profile does not allow,
        anything is or may be outside the allowed regions, the lake is missing or refuses access, or no model is
        published.
    AccessError
        If the lake does not answer.
    """
    context, opened_at = get_current_context(), datetime.now(UTC)
    settings = read_airflow_settings()
    params = RunParams.from_params(dict(context["params"]))
    lake = Lake(settings.lake_root)
    residency = check_residency(settings, lake)
    check_access(lake, settings.aws_conn_id)
    for folder in (lake.runs, lake.segments):
        abort_uploads(lake, folder, settings, older_than=STALE)
    dag_run = context["dag_run"]
    slug = run_slug(dag_run.run_id, dag_run.run_after)
    images = lake.data(params.data_prefix)
    model = find_model(lake, settings)
    weights = model["weights"]["source"]
    if weights == "random":
        log.warning("RANDOM WEIGHTS: the model %s is for demonstrations, its features have no meaning", model["uri"])
    previous = find_previous(lake, slug, model["digest"], settings.aws_conn_id)
    log.info("Run %s: images in %s, model %s (%s weights)", slug, images, model["uri"], weights)
    log.info("Comparison with the run %s: %s", previous["run"], previous["note"] or previous["pca_model"])
    return {
        "slug": slug,
        "run_id": dag_run.run_id,
        "run_after": dag_run.run_after.isoformat(),
        "cluster_name": cluster_name(slug),
        "round": uuid.uuid4().hex[:12],
        "opened_at": opened_at.isoformat(),
        "lake": lake.root,
        "images": images,
        "model": model,
        "previous": previous,
        "params": asdict(params),
        "profile": settings.profile,
        "region": settings.region,
        "endpoints": residency["endpoints"],
        "residency": residency,
    }


def close_run() -> None:
    """Fail unless every other task of the run has succeeded; the state of this task is the state of the run.

    If ``find_changes`` found nothing to do, the tasks after it are skipped, and the run succeeds.

    When a person marks a run as failed, Airflow skips the pending tasks, counts these as successful, and runs the
    teardowns. Without this task, which is the last teardown, such a run would end green with nothing published.

    The report of a failed run is written first. If that fails, the run ends as it would have ended without a report.

    Raises
    ------
    AirflowFailException
        With the tasks that have not succeeded.
    """
    context = get_current_context()
    ti = context["ti"]
    states: dict[str, str] = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    others = {name: state for name, state in states.items() if name != ti.task_id}
    # Not arguments of the task: then clearing verify_results would clear open_run, the setup, too.
    run: Run | None = _xcom(ti, others, "open_run")
    found: FoundChanges | None = _xcom(ti, others, "find_changes")
    is_idle = run is not None and found is not None and found["nothing_to_do"] is not None
    good = {"success", "skipped"} if is_idle else {"success"}
    failed = sorted(name for name, state in others.items() if state == "failed")
    rest = sorted(f"{name} ({state})" for name, state in others.items() if state not in good | {"failed"})
    if failed or rest or not others:
        report_failure(context, others, rest)
        raise AirflowFailException(
            f"failed: {', '.join(failed) or 'none'}; not run: {', '.join(rest) or 'none'}. "
            "The logs of the failed tasks give the reason; skipped tasks mean that the run was marked by hand"
        )
    if is_idle and run is not None and found is not None:
        report_unchanged(run, found)
        log.info("Success without a cluster: %s", found["nothing_to_do"])
    else:
        log.info("All %d tasks have succeeded", len(others))


def _xcom(ti: Any, states: Mapping[str, str], task: str) -> Any:
    """Return what a task has returned; None unless it has succeeded: its XCom may be from before it was cleared."""
    return ti.xcom_pull(task_ids=task) if states.get(task) == "success" else None
