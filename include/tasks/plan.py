"""The plan of a run and the code that it uses: ``plan_cluster`` and ``publish_code``."""

from __future__ import annotations

import logging

from include.artifacts.bundle import build_bundle
from include.artifacts.publishing import put_bundle
from include.artifacts.wheelhouse import find_wheelhouse
from include.cluster.request import run_job_flow_request
from include.cluster.rules import check_cluster
from include.cluster.steps import spark_step
from include.cost.forecast import check_cap, describe_forecast, forecast_cost, measured_rates
from include.cost.prices import load_prices
from include.lake.layout import Lake
from include.lake.objects import LakePath, read_json
from include.records import Forecast, Manifest, Plan, Run
from include.settings.deployment import Settings, read_airflow_settings
from include.settings.parameters import RunParams
from include.tasks.failures import without_retry
from spark_jobs.args import FeaturizeArgs, PcaArgs

log = logging.getLogger(__name__)


@without_retry
def plan_cluster(run: Run) -> Plan:
    """Return all requests of this run as data: RunJobFlow and the steps of both jobs.

    Raises
    ------
    AirflowFailException
        If EMR would reject the cluster, the lake does not contain the nodes' packages, or the forecast of the cost is
        above the cap.
    """
    settings = read_airflow_settings()
    params = RunParams.from_record(run["params"])
    check_cluster(slug=run["slug"], settings=settings, params=params)
    lake = Lake(run["lake"])
    slug, bundle = run["slug"], build_bundle()
    code, run_root = lake.code(bundle.digest), lake.run(slug).root
    featurize = FeaturizeArgs(
        images=run["images"],
        run=run_root,
        model=run["model"]["uri"],
        pattern=params.image_pattern,
        include_hidden=params.include_hidden,
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
        "code": bundle.digest,
        "jobs": bundle.jobs,
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


def _forecast(run: Run, params: RunParams, settings: Settings) -> Forecast:
    """Return the forecast of the run's cost, with the rates of the previous run; raise if it is above the cap."""
    manifest = _previous_manifest(run, settings)
    forecast = forecast_cost(load_prices(settings), params, run["image_count"], measured_rates(manifest))
    log.info("Forecast: %s", describe_forecast(forecast))
    check_cap(forecast, params.max_cost_eur)
    return forecast


def _previous_manifest(run: Run, settings: Settings) -> Manifest | None:
    """Return the manifest of the published run, or None if it is missing or damaged."""
    previous = run["previous"]["run"]
    if not previous:
        return None
    path = LakePath(Lake(run["lake"]).run(previous).manifest, settings.aws_conn_id)
    try:
        manifest: Manifest = read_json(path, "publish_results writes it")
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("The forecast uses default rates, since the manifest of the published run is damaged: %s", error)
        return None
    return manifest


def publish_code(run: Run, code: str) -> str:
    """Write the code bundle into the lake, into a folder named by its digest; return the folder.

    Raises
    ------
    RuntimeError
        If the sources have changed since the run was planned.
    """
    settings = read_airflow_settings()
    bundle = build_bundle()
    if bundle.digest != code:
        raise RuntimeError(
            f"the digest of the sources is now {bundle.digest}, the run was planned with {code}; "
            "clear plan_cluster to use the new sources"
        )
    folder = put_bundle(Lake(run["lake"]), bundle, settings.aws_conn_id)
    log.info("The code bundle %s is at %s", bundle.digest, folder)
    return folder
