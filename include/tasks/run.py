"""The first and the last task of a run: ``open_run`` and ``close_run``."""

from __future__ import annotations

import logging
import uuid
from dataclasses import asdict
from datetime import UTC, datetime

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from include.cluster.request import cluster_name
from include.lake.access import check_access
from include.lake.layout import Lake, run_slug
from include.lake.models import find_model
from include.lake.objects import LakePath, count_matching_files
from include.lake.publication import find_previous
from include.lake.uploads import STALE, abort_uploads
from include.records import Run
from include.residency.preflight import check_residency
from include.settings.deployment import read_airflow_settings
from include.settings.parameters import RunParams
from include.tasks.failed_run import report_failure
from include.tasks.failures import NoImagesError, without_retry
from spark_jobs.args import ALL_FORMATS

log = logging.getLogger(__name__)


@without_retry
def open_run() -> Run:
    """Identify the run, and check its settings, parameters and inputs before anything costs money.

    Raises
    ------
    AirflowFailException
        If a setting or parameter is missing or wrong, a client resolves to an address that the profile does not allow,
        anything is or may be outside the allowed regions, the lake is missing or refuses access, no model is
        published, or there is no image.
    AccessError
        If the lake does not answer.
    """
    context, opened_at = get_current_context(), datetime.now(UTC)
    settings = read_airflow_settings()
    params = RunParams.from_params(dict(context["params"]))
    lake = Lake(settings.lake_root)
    residency = check_residency(settings, lake)
    check_access(lake, settings.aws_conn_id)
    abort_uploads(lake, lake.runs, settings, older_than=STALE)
    dag_run = context["dag_run"]
    slug = run_slug(dag_run.run_id, dag_run.run_after)
    images = lake.data(params.data_prefix)
    image_count = _count_images(images, params, settings.aws_conn_id)
    model = find_model(lake, settings)
    weights = model["weights"]["source"]
    if weights == "random":
        log.warning("RANDOM WEIGHTS: the model %s is for demonstrations, its features have no meaning", model["uri"])
    previous = find_previous(lake, slug, model["digest"], settings.aws_conn_id)
    log.info("Run %s: %d images in %s, model %s (%s weights)", slug, image_count, images, model["uri"], weights)
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
        "image_count": image_count,
        "model": model,
        "previous": previous,
        "params": asdict(params),
        "profile": settings.profile,
        "region": settings.region,
        "endpoints": residency["endpoints"],
        "residency": residency,
    }


def _count_images(images: str, params: RunParams, aws_conn_id: str | None) -> int:
    folder, advice = LakePath(images, aws_conn_id), f"put images at {images}/<label>/<name>.jpg"
    if not folder.exists():
        raise NoImagesError(f"the folder of images {images} does not exist; {advice}")
    count = count_matching_files(folder, params.image_pattern, include_hidden=params.include_hidden)
    if count == 0:
        raise NoImagesError(
            f"no file under {images} matches {params.image_pattern!r}; {advice}, or set image_pattern "
            f"({ALL_FORMATS}: every format that is read). Names that begin with a dot need include_hidden"
        )
    return count


def close_run() -> None:
    """Fail unless every other task of the run has succeeded; the state of this task is the state of the run.

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
    failed = sorted(name for name, state in others.items() if state == "failed")
    rest = sorted(f"{name} ({state})" for name, state in others.items() if state not in {"failed", "success"})
    if failed or rest or not others:
        report_failure(context, others, rest)
        raise AirflowFailException(
            f"failed: {', '.join(failed) or 'none'}; not run: {', '.join(rest) or 'none'}. "
            "The logs of the failed tasks give the reason; skipped tasks mean that the run was marked by hand"
        )
    log.info("All %d tasks have succeeded", len(others))
