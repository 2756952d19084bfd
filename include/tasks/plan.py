"""The plan of a run and the code that it uses: ``plan_cluster`` and ``publish_code``."""

from __future__ import annotations

import logging

from airflow.sdk.exceptions import AirflowSkipException

from include.artifacts.bundle import build_bundle
from include.artifacts.publishing import put_bundle
from include.artifacts.wheelhouse import find_wheelhouse
from include.cluster.planning import SizePlan, Work, plan_size
from include.cluster.rates import RECENT_STATES, Rates, learn_rates, read_outcome
from include.cluster.request import run_job_flow_request
from include.cluster.rules import check_cluster
from include.cluster.steps import PROGRESS_SECONDS, SPECULATION, spark_step
from include.cost.figures import describe_plan, plan_figures
from include.cost.forecast import check_cap, describe_forecast, forecast_cost
from include.cost.prices import load_prices
from include.lake.layout import Lake
from include.lake.recent import recent_manifests
from include.records import ClusterPlan, Forecast, FoundChanges, Plan, Run
from include.settings.deployment import Settings, read_airflow_settings
from include.settings.parameters import RunParams
from include.tasks.changes import featurize_args
from include.tasks.failures import without_retry
from spark_jobs.args import PcaArgs

log = logging.getLogger(__name__)


@without_retry
def plan_cluster(run: Run, found: FoundChanges) -> Plan:
    """Size the cluster, and return all requests of this run as data: RunJobFlow and the steps of both jobs.

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
        basis=params.basis,
        previous_model=run["previous"]["pca_model"],
        drift_threshold=settings.drift_threshold,
        sample_images=params.sample_images,
        progress_seconds=PROGRESS_SECONDS,
    )
    limit = params.step_time_limit_minutes
    size_plan = _plan_size(run, found, params, settings)
    forecast = forecast_cost(load_prices(settings), params, size_plan)
    sizing = plan_figures(size_plan, forecast)
    summary = describe_plan(sizing)
    _log(found, sizing, summary, forecast, params)
    check_cap(forecast, params.max_cost_eur)
    # A slow spot node gets a copy of its task elsewhere. Of featurize only: see docs/decisions/0032.
    conf = SPECULATION if size_plan.size.task_nodes else {}
    return {
        "summary": summary,
        "sizing": sizing,
        "code": bundle.digest,
        "jobs": bundle.jobs,
        "forecast": forecast,
        "job_flow_overrides": run_job_flow_request(
            slug=slug,
            run_id=run["run_id"],
            lake=lake.root,
            settings=settings,
            params=params,
            size=size_plan.size,
            code=code,
            wheels=find_wheelhouse(lake, settings),
            log_uri=f"{settings.logs}/" if settings.logs else lake.logs,
        ),
        "featurize_steps": [spark_step(featurize, slug=slug, code=code, time_limit_minutes=limit, conf=conf)],
        "pca_steps": [spark_step(pca, slug=slug, code=code, time_limit_minutes=limit)],
    }


def _plan_size(run: Run, found: FoundChanges, params: RunParams, settings: Settings) -> SizePlan:
    """Return the cluster for the work that was found, planned with the rates of the last runs."""
    work = Work(found["work"], found["work_bytes"], found["listed"])
    return plan_size(work, params, _learn_rates(Lake(run["lake"]), settings.aws_conn_id))


def _learn_rates(lake: Lake, aws_conn_id: str | None) -> Rates:
    outcomes = {}
    for manifest in recent_manifests(lake, RECENT_STATES, aws_conn_id):
        try:
            outcome = read_outcome(manifest)
        except ValueError as error:
            log.warning("The plan ignores the manifest of state %s: %s", manifest.get("state"), error)
            continue
        if outcome is not None:
            outcomes[manifest.get("run")] = outcome  # a restored state has the run of another one
    return learn_rates(list(outcomes.values()))


def _log(found: FoundChanges, sizing: ClusterPlan, summary: str, forecast: Forecast, params: RunParams) -> None:
    if found["everything"]:
        log.info("All %d images are computed: %s", found["work"], found["everything"])
    log.info("Plan: %s", summary)
    log.info("Rates from %s", sizing["rates"])
    log.info("Forecast: %s", describe_forecast(forecast))
    if not sizing["meets_deadline"]:
        log.warning(
            "The deadline will be missed: %.0f min are expected, deadline_minutes=%d. Raise max_worker_nodes=%d, "
            "choose larger core_instance_types, or allow more time",
            (sizing["seconds"] or 0) / 60,
            params.deadline_minutes,
            params.max_worker_nodes,
        )
    if sizing["featurize_seconds"] > params.step_time_limit_minutes * 60:
        log.warning(
            "featurize is expected to take %.0f min, but step_time_limit_minutes=%d stops it: raise the limit",
            sizing["featurize_seconds"] / 60,
            params.step_time_limit_minutes,
        )


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
