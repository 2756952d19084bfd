"""The plan of a run and the code that it uses: ``plan_cluster`` and ``publish_code``."""

from __future__ import annotations

import logging

from airflow.sdk.exceptions import AirflowSkipException

from include.artifacts.bundle import build_bundle
from include.artifacts.publishing import put_bundle
from include.artifacts.wheelhouse import find_wheelhouse
from include.cluster.request import run_job_flow_request
from include.cluster.rules import check_cluster
from include.cluster.steps import spark_step
from include.cost.forecast import check_cap, describe_forecast, forecast_cost, measured_rates
from include.cost.prices import load_prices
from include.lake.layout import Lake
from include.lake.state import DamagedLakeError, read_manifest, read_pointer
from include.records import Forecast, FoundChanges, Manifest, Plan, Run
from include.settings.deployment import Settings, read_airflow_settings
from include.settings.parameters import RunParams
from include.tasks.changes import featurize_args
from include.tasks.failures import without_retry
from spark_jobs.args import PcaArgs

log = logging.getLogger(__name__)


@without_retry
def plan_cluster(run: Run, found: FoundChanges) -> Plan:
    """Return all requests of this run as data: RunJobFlow and the steps of both jobs.

    Raises
    ------
    AirflowSkipException
        If there is nothing to do: no cluster is created, and the run succeeds.
    AirflowFailException
        If EMR would reject the cluster, the lake does not contain the nodes' packages, or the forecast of the cost is
        above the cap.
    """
    if found["nothing_to_do"]:
        raise AirflowSkipException(found["nothing_to_do"])
    settings = read_airflow_settings()
    params = RunParams.from_record(run["params"])
    check_cluster(slug=run["slug"], settings=settings, params=params)
    lake = Lake(run["lake"])
    slug, bundle = run["slug"], build_bundle()
    code, run_root = lake.code(bundle.digest), lake.run(found["run"]).root
    featurize = featurize_args(run, found["run"], params)
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
    forecast = _forecast(run, found, params, settings)
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


def _forecast(run: Run, found: FoundChanges, params: RunParams, settings: Settings) -> Forecast:
    """Return the forecast of the run's cost, with the rates of the previous run; raise if it is above the cap."""
    rates = measured_rates(_previous_manifest(run, settings))
    forecast = forecast_cost(load_prices(settings), params, found["work"], found["listed"], rates)
    if found["everything"]:
        log.info("All %d images are computed: %s", found["work"], found["everything"])
    log.info("Forecast: %s", describe_forecast(forecast))
    check_cap(forecast, params.max_cost_eur)
    return forecast


def _previous_manifest(run: Run, settings: Settings) -> Manifest | None:
    """Return the manifest of the published run, or None if it is missing or damaged."""
    lake = Lake(run["lake"])
    pointer = read_pointer(lake, settings.aws_conn_id)
    current = pointer.current if pointer else None
    if current is None:
        return None
    try:
        return read_manifest(lake, current["manifest"], settings.aws_conn_id)
    except DamagedLakeError as error:
        log.warning("The forecast uses default rates, since the manifest of the published run is damaged: %s", error)
        return None


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
