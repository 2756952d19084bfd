"""The results of a run: ``verify_results``, ``report_cost`` and ``publish_results``."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from include.cost.account import account_cost, describe_cost
from include.cost.prices import load_prices
from include.emr.client import create_hook, open_emr
from include.emr.identity import RunIdentity
from include.lake.layout import Lake
from include.lake.manifest import build_manifest
from include.lake.objects import LakePath, folder_bytes, read_json, write_bytes, write_json
from include.lake.publication import publish_run
from include.lake.uploads import abort_uploads
from include.lake.verification import verify_run
from include.records import Cost, Created, Current, PlanSummary, Publication, Run, Verified
from include.reports.report import build_report, render_report, report_line
from include.settings.deployment import Settings, read_airflow_settings
from include.settings.parameters import RunParams
from include.tasks.failures import without_retry
from spark_jobs.records import FeaturizeSummary

log = logging.getLogger(__name__)


@without_retry
def verify_results(run: Run, jobs: str) -> Verified:
    """Check the outputs of the run; if anything is wrong, nothing is published.

    Parameters
    ----------
    run : dict
        What ``open_run`` returned.
    jobs : str
        ``jobs`` of ``plan_cluster``.

    Raises
    ------
    AirflowFailException
        With every failed check.
    """
    settings = read_airflow_settings()
    lake = Lake(run["lake"])
    locations = lake.run(run["slug"])
    abort_uploads(lake, locations.root, settings)  # no process of the run writes any more
    verified = verify_run(locations, RunParams.from_record(run["params"]), jobs, settings.aws_conn_id)
    log.info("Verified %s: %s", locations.root, verified)
    return verified


def report_cost(run: Run | None) -> Cost | None:
    """Log what the run's clusters have cost, also after a failure, and write it to ``cost.json``.

    Returns
    -------
    Cost or None
        None if the cost could not be computed; this never fails the run.
    """
    if run is None:
        log.info("open_run has not succeeded: the run has no cost")
        return None
    try:
        cost = _account(run, read_airflow_settings())
    except Exception:
        log.exception("The cost of the run could not be computed")
        return None
    log.info("Cost: %s", describe_cost(cost))
    return cost


def _account(run: Run, settings: Settings) -> Cost:
    conn, locations = settings.aws_conn_id, Lake(run["lake"]).run(run["slug"])
    emr = open_emr(create_hook(settings), settings)
    clusters = emr.clusters(RunIdentity.from_run(run), live=False)
    ids = [cluster["Id"] for cluster in clusters]
    root, path = LakePath(locations.root, conn), LakePath(locations.featurize_summary, conn)
    summary: FeaturizeSummary | None = read_json(path, "featurize writes it") if path.exists() else None
    cost: Cost = account_cost(
        load_prices(settings),
        clusters[0] if clusters else {},
        [item for cluster_id in ids for item in emr.list_all("list_instances", "Instances", ClusterId=cluster_id)],
        [
            item
            for cluster_id in ids
            for item in emr.list_all("list_instance_fleets", "InstanceFleets", ClusterId=cluster_id)
        ],
        folder_bytes(root),
        summary["features"] if summary else 0,
        datetime.now(UTC),
    )
    if settings.profile == "local":
        cost["notes"].insert(0, "profile local: nothing was paid; this is what such a cluster would have cost")
    write_json(LakePath(locations.cost, conn), cost)
    return cost


def publish_results(run: Run, verified: Verified, plan: PlanSummary, created: Created, cost: Cost | None) -> Current:
    """Write the report of the run, publish its results, and write its manifest last.

    Parameters
    ----------
    run, verified, cost : dict
        What ``open_run``, ``verify_results`` and ``report_cost`` returned.
    plan : dict
        ``code`` and ``forecast`` of ``plan_cluster``.
    created : dict
        Id and attestation of the cluster that ran the last step.
    """
    settings = read_airflow_settings()
    conn, lake = settings.aws_conn_id, Lake(run["lake"])
    locations = lake.run(run["slug"])
    finished_at = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = build_manifest(
        run=run,
        plan=plan,
        created=created,
        featurize=read_json(LakePath(locations.featurize_summary, conn), "featurize writes it"),
        pca=read_json(LakePath(locations.pca_summary, conn), "pca writes it"),
        verified=verified,
        finished_at=finished_at,
        cost=cost,
    )
    report = build_report(manifest)
    write_json(LakePath(locations.report_json, conn), report)
    write_bytes(LakePath(locations.report_html, conn), render_report(report).encode())
    record: Publication = {**verified, "run_id": run["run_id"], "published_at": finished_at}
    published = publish_run(lake, run["slug"], record, conn)
    write_bytes(LakePath(lake.report(run["slug"]), conn), report_line(report))
    write_json(LakePath(locations.manifest, conn), {**manifest, "results": published["results"]})
    for warning in manifest["warnings"]:
        log.warning(warning)
    log.info("Published %s: %s images, k = %s", run["slug"], verified["images"], verified["k"])
    return published
