"""The manifest of a run: its results, inputs, code, model, cluster and cost. Pure."""

from __future__ import annotations

from include.records import Cost, Created, Manifest, PlanSummary, Run, Verified
from spark_jobs.records import FeaturizeSummary, PcaSummary


def build_manifest(
    *,
    run: Run,
    plan: PlanSummary,
    created: Created,
    featurize: FeaturizeSummary,
    pca: PcaSummary,
    verified: Verified,
    finished_at: str,
    cost: Cost | None,
) -> Manifest:
    """Return the manifest, without the names of the published files.

    Parameters
    ----------
    run, plan, created, verified : dict
        The records of the run's tasks.
    featurize, pca : dict
        The jobs' summaries.
    finished_at : str
        ISO 8601 time in UTC.
    cost : dict or None
        None if it could not be computed.
    """
    warnings = list(verified["warnings"])
    if run["model"]["weights"]["source"] == "random":
        warnings.insert(0, "RANDOM WEIGHTS: this run is a demonstration, its features have no meaning")
    return {
        "run": run["slug"],
        "run_id": run["run_id"],
        "run_after": run["run_after"],
        "finished_at": finished_at,
        "lake": run["lake"],
        "images_folder": run["images"],
        "params": run["params"],
        "profile": run["profile"],
        "region": run["region"],
        "endpoints": run["endpoints"],
        "code": plan["code"],
        "model": run["model"],
        "previous": run["previous"],
        "cluster": {"id": created["cluster_id"], "name": run["cluster_name"]},
        "featurize": featurize,
        "pca": pca,
        "residency": {"before": run["residency"], "cluster": created["attestation"]},
        "forecast": plan["forecast"],
        "cost": cost,
        "warnings": warnings,
    }
