"""The results of a run: ``verify_results``, ``report_cost`` and ``publish_results``."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from include.cost.account import account_cost, describe_cost
from include.cost.figures import describe_outcome, measure_figures
from include.cost.prices import load_prices
from include.emr.client import create_hook, open_emr
from include.emr.identity import RunIdentity
from include.emr.timeline import read_timeline
from include.lake.commit import commit
from include.lake.garbage import collect_garbage
from include.lake.layout import Lake
from include.lake.manifest import build_manifest
from include.lake.objects import LakePath, folder_bytes, read_json, write_bytes, write_json
from include.lake.publication import show_published
from include.lake.state import DamagedLakeError
from include.lake.uploads import abort_uploads
from include.lake.verification import read_segments, verify_run
from include.records import Cost, Created, Current, FoundChanges, PlanSummary, Run, Verified
from include.reports.publishing import write_report
from include.reports.report import build_report, report_line
from include.settings.deployment import Settings, read_airflow_settings
from include.settings.parameters import RunParams
from include.tasks.failures import without_retry
from spark_jobs.records import FeaturizeSummary, PcaSummary

log = logging.getLogger(__name__)


@without_retry
def verify_results(run: Run, found: FoundChanges, jobs: str) -> Verified:
    """Check the outputs of the run; if anything is wrong, nothing is published.

    Parameters
    ----------
    run, found : dict
        What ``open_run`` and ``find_changes`` returned.
    jobs : str
        ``jobs`` of ``plan_cluster``.

    Raises
    ------
    AirflowFailException
        With every failed check.
    """
    settings = read_airflow_settings()
    lake = Lake(run["lake"])
    for folder, names in ((lake.run(found["run"]).root, ""), (lake.segments, f"{found['run']}-")):
        abort_uploads(lake, folder, settings, names=names)  # no process of the run writes any more
    params = RunParams.from_record(run["params"])
    verified = verify_run(lake, found["run"], found, params, jobs, settings.aws_conn_id)
    log.info("Verified %s: %s", found["run"], verified)
    return verified


def report_cost(run: Run | None, found: FoundChanges | None) -> Cost | None:
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
        cost = _account(run, found["run"] if found else run["slug"], read_airflow_settings())
    except Exception:
        log.exception("The cost of the run could not be computed")
        return None
    log.info("Cost: %s", describe_cost(cost))
    return cost


def _account(run: Run, name: str, settings: Settings) -> Cost:
    conn, locations = settings.aws_conn_id, Lake(run["lake"]).run(name)
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
        summary["featurized"] if summary else 0,
        datetime.now(UTC),
    )
    now = datetime.now(UTC)
    lives = [read_timeline(cluster, emr.steps(cluster["Id"]), now) for cluster in reversed(clusters)]
    cost["timeline"] = [part for life in lives for part in life]
    if settings.profile == "local":
        cost["notes"].insert(0, "profile local: nothing was paid; this is what such a cluster would have cost")
    write_json(LakePath(locations.cost, conn), cost)
    return cost


@without_retry
def publish_results(
    run: Run, found: FoundChanges, verified: Verified, plan: PlanSummary, created: Created, cost: Cost | None
) -> Current:
    """Publish the state of the run: commit it, update ``results/`` and ``results_csv/``, and delete old states.

    Parameters
    ----------
    run, found, verified, cost : dict
        What ``open_run``, ``find_changes``, ``verify_results`` and ``report_cost`` returned.
    plan : dict
        ``code``, ``forecast`` and ``sizing`` of ``plan_cluster``.
    created : dict
        Id and attestation of the cluster that ran the last step.

    Raises
    ------
    AirflowFailException
        If another run has published since ``find_changes``; nothing that people read was changed.
    """
    settings = read_airflow_settings()
    conn, lake = settings.aws_conn_id, Lake(run["lake"])
    locations = lake.run(found["run"])
    finished_at = datetime.now(UTC).isoformat(timespec="seconds")
    featurize: FeaturizeSummary = read_json(LakePath(locations.featurize_summary, conn), "featurize writes it")
    pca: PcaSummary = read_json(LakePath(locations.pca_summary, conn), "pca writes it")
    outcome = measure_figures(plan["sizing"], found, featurize, pca, cost)
    log.info("Outcome: %s", describe_outcome(outcome, plan["sizing"]))
    manifest = build_manifest(
        run=run,
        found=found,
        segments=read_segments(locations, conn),
        plan=plan,
        created=created,
        featurize=featurize,
        pca=pca,
        verified=verified,
        finished_at=finished_at,
        sizing={"plan": plan["sizing"], "outcome": outcome},
        cost=cost,
    )
    report = build_report(manifest)
    write_report(lake, report, conn)
    current = commit(lake, manifest, found["base"], finished_at, conn)
    show_published(lake, conn)
    write_bytes(LakePath(lake.report(found["run"]), conn), report_line(report))
    try:
        collect_garbage(lake, settings.kept_states, conn)
    except (OSError, DamagedLakeError):
        log.warning("What no kept state needs was not deleted; the next run will do it", exc_info=True)
    for warning in manifest["warnings"]:
        log.warning(warning)
    state = f"state {current['state']}: {verified['images']} images, k = {verified['k']}"
    log.info("Published %s as %s", found["run"], state)
    return current
