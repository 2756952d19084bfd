"""The bodies of the DAG's Python tasks."""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import AirflowFailException

from include.artifacts.bundle import build_bundle
from include.artifacts.publishing import put_bundle
from include.artifacts.wheelhouse import find_wheelhouse
from include.artifacts.wheels import WheelhouseError
from include.aws.endpoints import EndpointRefusedError
from include.cluster.request import cluster_name, run_job_flow_request
from include.cluster.rules import check_cluster
from include.cluster.steps import spark_step
from include.cost.account import account_cost, describe_cost
from include.cost.forecast import CostCapError, check_cap, describe_forecast, forecast_cost, measured_rates
from include.cost.prices import PriceTableError, load_prices
from include.emr.client import create_hook, open_emr
from include.emr.identity import RunIdentity
from include.emr.reaper import Reaper, reap
from include.lake.access import AccessRefusedError, check_access
from include.lake.layout import Lake, run_slug
from include.lake.manifest import build_manifest
from include.lake.models import ModelError, find_model
from include.lake.objects import count_matching_files, folder_bytes, lake_path, read_json, write_bytes, write_json
from include.lake.publication import find_previous, publish_run
from include.lake.uploads import STALE, abort_uploads
from include.lake.verification import VerificationError, verify_run
from include.records import Run
from include.reports.report import build_report, render_report, report_line
from include.residency.attestation import ResidencyError
from include.residency.preflight import check_residency
from include.settings.dag_ids import FEATURES_DAG
from include.settings.deployment import Settings, SettingsError, read_airflow_settings
from include.settings.parameters import RunParams
from spark_jobs.args import FeaturizeArgs, PcaArgs

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)


class NoImagesError(RuntimeError):
    """The folder of images is missing, or holds no file that the pattern takes."""


HOPELESS = (
    *(SettingsError, EndpointRefusedError, AccessRefusedError, ModelError, NoImagesError, VerificationError),
    *(ResidencyError, WheelhouseError, PriceTableError, CostCapError),
)
"""Errors that a retry cannot mend."""


def without_retry(body: Callable[P, T]) -> Callable[P, T]:
    """Make a task fail at once, without Airflow's retries, on an error that a retry cannot mend."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return body(*args, **kwargs)
        except HOPELESS as error:
            raise AirflowFailException(f"{type(error).__name__}: {error}") from error

    return run


@without_retry
def open_run() -> dict[str, Any]:
    """Give the run its identity, and check all that can be wrong before anything is paid for.

    Returns
    -------
    dict
        What the run is and uses; every later task takes it.

    Raises
    ------
    AirflowFailException
        When settings or parameters are missing or wrong, a client resolves to an address that the profile does not
        allow, something is or may be outside the allowed regions, the lake is missing or refuses access, no model is
        published, or there is no image.
    AccessError
        When the lake does not answer.
    """
    context = get_current_context()
    settings = read_airflow_settings()
    params = RunParams.from_params(dict(context["params"]))
    lake = Lake(settings.lake_root)
    residency = check_residency(settings, lake)
    check_access(lake, settings.aws_conn_id)
    abort_uploads(lake, lake.runs, settings, older_than=STALE)
    dag_run = context["dag_run"]
    slug = run_slug(dag_run.run_id, dag_run.run_after)
    images = lake.data(params.data_prefix)
    image_count = _count_images(images, params.image_pattern, settings.aws_conn_id)
    model = find_model(lake, settings)
    if model["weights"]["source"] == "random":
        log.warning("RANDOM WEIGHTS: the model %s is for demonstrations, its features mean nothing", model["uri"])
    previous = find_previous(lake, slug, model["digest"], settings.aws_conn_id)
    log.info(
        "Run %s: %d images in %s, model %s (%s)", slug, image_count, images, model["uri"], model["weights"]["source"]
    )
    log.info("Compared with the run %s: %s", previous["run"], previous["note"] or previous["pca_model"])
    return {
        "slug": slug,
        "run_id": dag_run.run_id,
        "run_after": dag_run.run_after.isoformat(),
        "cluster_name": cluster_name(slug),
        "round": uuid.uuid4().hex[:12],
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


def _count_images(images: str, pattern: str, aws_conn_id: str | None) -> int:
    folder = lake_path(images, aws_conn_id)
    if not folder.exists():
        raise NoImagesError(f"the folder of images {images} does not exist; put images at {images}/<label>/<name>.jpg")
    count = count_matching_files(folder, pattern)
    if count == 0:
        raise NoImagesError(f"no file under {images} matches {pattern!r}; put images at {images}/<label>/<name>.jpg")
    return count


@without_retry
def plan_cluster(run: dict[str, Any]) -> dict[str, Any]:
    """Return the requests of this run as data: the cluster's, and the steps' of each job.

    Raises
    ------
    AirflowFailException
        When EMR would reject the cluster, the packages of its nodes are not in the lake, or the forecast of its cost
        is above the cap.
    """
    settings = read_airflow_settings()
    params = RunParams.from_record(run["params"])
    check_cluster(slug=run["slug"], settings=settings, params=params)
    lake = Lake(run["lake"])
    slug, digest = run["slug"], build_bundle().digest
    code, run_root = lake.code(digest), lake.run(slug).root
    featurize = FeaturizeArgs(
        images=run["images"],
        run=run_root,
        model=run["model"]["uri"],
        pattern=params.image_pattern,
        max_reject_ratio=params.max_reject_ratio,
        exif_orientation=params.exif_orientation,
        images_per_task=params.images_per_task,
    )
    pca = PcaArgs(
        run=run_root,
        variance_target=params.variance_target,
        n_components=params.n_components,
        scores=params.scores,
        previous_model=run["previous"]["pca_model"],
        drift_threshold=settings.drift_threshold,
        sample_images=params.sample_images,
    )
    limit = params.step_time_limit_minutes
    forecast = _forecast(run, params, settings)
    return {
        "code": digest,
        "forecast": forecast,
        "job_flow_overrides": run_job_flow_request(
            slug=slug,
            run_id=run["run_id"],
            lake=lake.root,
            settings=settings,
            params=params,
            code=code,
            wheels=find_wheelhouse(lake, settings),
            log_uri=f"{settings.logs}/" if settings.logs else lake.logs,
        ),
        "featurize_steps": [spark_step(featurize, slug=slug, code=code, time_limit_minutes=limit)],
        "pca_steps": [spark_step(pca, slug=slug, code=code, time_limit_minutes=limit)],
    }


def _forecast(run: dict[str, Any], params: RunParams, settings: Settings) -> dict[str, Any]:
    """Return what the run will cost, as far as prices are known, when that is below its cap."""
    previous = run["previous"]["run"]
    manifest = lake_path(Lake(run["lake"]).run(previous).manifest, settings.aws_conn_id) if previous else None
    rates = measured_rates(read_json(manifest, "the run's record") if manifest and manifest.exists() else None)
    forecast = forecast_cost(load_prices(settings), params, run["image_count"], rates)
    log.info("Forecast: %s", describe_forecast(forecast))
    check_cap(forecast, params.max_cost_eur)
    return forecast


def publish_code(run: dict[str, Any], code: str) -> str:
    """Put the code bundle in the lake, under its digest; return its folder.

    Raises
    ------
    RuntimeError
        When the sources have changed since the run was planned.
    """
    settings = read_airflow_settings()
    bundle = build_bundle()
    if bundle.digest != code:
        raise RuntimeError(
            f"the sources are now {bundle.digest}, the run was planned with {code}; "
            "clear plan_cluster to take the new ones"
        )
    folder = put_bundle(Lake(run["lake"]), bundle, settings.aws_conn_id)
    log.info("Code %s is at %s", bundle.digest, folder)
    return folder


@without_retry
def verify_results(run: dict[str, Any]) -> dict[str, Any]:
    """Check the run's outputs; nothing is published when something is wrong.

    Raises
    ------
    AirflowFailException
        With every check that failed.
    """
    settings = read_airflow_settings()
    lake = Lake(run["lake"])
    locations = lake.run(run["slug"])
    abort_uploads(lake, locations.root, settings)  # nothing of the run writes any more
    checked = verify_run(locations, RunParams.from_record(run["params"]), settings.aws_conn_id)
    log.info("Verified %s: %s", locations.root, checked)
    return checked


def report_cost(run: Run | None) -> dict[str, Any] | None:
    """Tell what the run's clusters have cost, also when it has failed; keep it in the run's folder.

    Returns
    -------
    dict or None
        The account; None when it could not be made, which is no reason for a run to fail.
    """
    if run is None:
        log.info("The run was not opened: nothing has cost anything")
        return None
    try:
        cost = _account(run, read_airflow_settings())
    except Exception:
        log.exception("What the run has cost cannot be told")
        return None
    log.info("Cost: %s", describe_cost(cost))
    return cost


def _account(run: Run, settings: Settings) -> dict[str, Any]:
    conn, locations = settings.aws_conn_id, Lake(run["lake"]).run(run["slug"])
    emr = open_emr(create_hook(settings), settings)
    clusters = emr.clusters(RunIdentity.from_run(run), live=False)
    summary = lake_path(locations.featurize_summary, conn)
    cost = account_cost(
        load_prices(settings),
        clusters[0] if clusters else {},
        [item for found in clusters for item in emr.list_all("list_instances", "Instances", ClusterId=found["Id"])],
        [
            item
            for found in clusters
            for item in emr.list_all("list_instance_fleets", "InstanceFleets", ClusterId=found["Id"])
        ],
        folder_bytes(lake_path(locations.root, conn)) if lake_path(locations.root, conn).exists() else 0,
        int(read_json(summary, "featurize writes it")["features"]) if summary.exists() else 0,
        datetime.now(UTC),
    )
    if settings.profile == "local":
        cost["notes"].insert(0, "profile local: nothing was paid; this is what such a cluster would have cost")
    write_json(lake_path(locations.cost, conn), cost)
    return cost


def publish_results(
    run: dict[str, Any],
    checked: dict[str, Any],
    plan: dict[str, Any],
    made: dict[str, Any],
    cost: dict[str, Any] | None,
) -> dict[str, Any]:
    """Write the run's report, publish its results and, last, write its manifest.

    Parameters
    ----------
    run, checked, cost : dict
        What ``open_run``, ``verify_results`` and ``report_cost`` returned.
    plan : dict
        ``code`` and ``forecast`` of ``plan_cluster``.
    made : dict
        ``cluster_id`` and ``attestation`` of the cluster that the last step ran on.
    """
    settings = read_airflow_settings()
    conn, lake = settings.aws_conn_id, Lake(run["lake"])
    locations = lake.run(run["slug"])
    finished_at = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = build_manifest(
        run=run,
        code=plan["code"],
        cluster_id=made["cluster_id"],
        featurize=read_json(lake_path(locations.featurize_summary, conn), "featurize writes it"),
        pca=read_json(lake_path(locations.pca_summary, conn), "pca writes it"),
        checked=checked,
        finished_at=finished_at,
        residency={"before": run["residency"], "cluster": made["attestation"]},
        forecast=plan["forecast"],
        cost=cost,
    )
    report = build_report(manifest)
    write_json(lake_path(locations.report_json, conn), report)
    write_bytes(lake_path(locations.report_html, conn), render_report(report).encode())
    record = {"run_id": run["run_id"], "published_at": finished_at, **checked}
    published = publish_run(lake, run["slug"], record, conn)
    write_bytes(lake_path(lake.report(run["slug"]), conn), report_line(report))
    write_json(lake_path(locations.manifest, conn), manifest | {"results": published["results"]})
    for warning in manifest["warnings"]:
        log.warning(warning)
    log.info("Published %s: %s images, k = %s", run["slug"], checked["images"], checked["k"])
    return published


def reap_clusters() -> None:
    """Terminate the orphaned clusters of this lake.

    Raises
    ------
    AirflowFailException
        If there were any: they are terminated by then, but an earlier layer should have done it.
    """
    settings, ti = read_airflow_settings(), get_current_context()["ti"]
    reaper = Reaper(
        lake=settings.lake_root,
        now=datetime.now(UTC),
        grace=timedelta(minutes=settings.reaper_grace_minutes),
        is_live_run=lambda run_id: bool(
            ti.get_dr_count(dag_id=FEATURES_DAG, run_ids=[run_id], states=["queued", "running"])
        ),
    )
    ended = reap(open_emr(create_hook(settings), settings), reaper)
    if ended:
        listed = "; ".join(f"{cluster_id}: {reason}" for cluster_id, reason in ended.items())
        raise AirflowFailException(
            f"{len(ended)} orphaned clusters were terminated. {listed}. Find out in the logs of their runs why "
            "terminate_cluster did not do it, and what they have cost"
        )


def close_run() -> None:
    """Fail unless every other task of the run has succeeded: what makes a run green or red.

    A run that a person marks failed has its pending tasks skipped, which Airflow counts as success, and its teardowns
    run: without this task, the last of them, the run would end green with nothing published.

    Raises
    ------
    AirflowFailException
        With the tasks that have not succeeded.
    """
    ti = get_current_context()["ti"]
    states: dict[str, str] = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    others = {name: state for name, state in states.items() if name != ti.task_id}
    failed = sorted(name for name, state in others.items() if state == "failed")
    rest = sorted(f"{name} ({state})" for name, state in others.items() if state not in {"failed", "success"})
    if failed or rest or not others:
        raise AirflowFailException(
            f"failed: {', '.join(failed) or 'none'}; not run: {', '.join(rest) or 'none'}. "
            "The log of what has failed says why; skipped tasks are those of a run that was marked by hand"
        )
    log.info("All %d tasks have succeeded", len(others))
