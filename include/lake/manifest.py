"""The manifest of a run: its results, inputs, code, model, cluster and cost. Pure."""

from __future__ import annotations

from include.records import Cost, Created, FoundChanges, Manifest, PlanSummary, Run, Sizing, Verified
from spark_jobs.records import Basis, BasisInUse, ChangeCounts, FeaturizeSummary, PcaSummary, Segment


def build_manifest(
    *,
    run: Run,
    found: FoundChanges,
    segments: list[Segment],
    plan: PlanSummary,
    created: Created,
    featurize: FeaturizeSummary,
    pca: PcaSummary,
    verified: Verified,
    finished_at: str,
    sizing: Sizing,
    cost: Cost | None,
) -> Manifest:
    """Return the manifest of the state that a run publishes; the commit gives it its number.

    Parameters
    ----------
    run, found, plan, created, verified : dict
        The records of the run's tasks.
    segments : list of dict
        The segments of the state, in order.
    featurize, pca : dict
        The jobs' summaries.
    finished_at : str
        ISO 8601 time in UTC.
    sizing : dict
        The planned cluster, and what it has done.
    cost : dict or None
        None if it could not be computed.
    """
    warnings = list(verified["warnings"])
    if run["model"]["weights"]["source"] == "random":
        warnings.insert(0, "RANDOM WEIGHTS: this run is a demonstration, its features have no meaning")
    return {
        "state": 0,
        "previous_manifest": None,
        "round": run["round"],
        "changes": select_counts(found),
        "fingerprint": featurize["fingerprint"],
        "segments": segments,
        "results": sorted({name for segment in segments for name in segment["results"]}),
        "run": found["run"],
        "run_id": run["run_id"],
        "run_after": run["run_after"],
        "opened_at": run["opened_at"],
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
        "sizing": sizing,
        "cost": cost,
        "warnings": warnings,
    }


def select_counts(found: ChangeCounts) -> ChangeCounts:
    """Return the counts of a record that has more fields."""
    return {
        "listed": found["listed"],
        "new": found["new"],
        "changed": found["changed"],
        "gone": found["gone"],
        "work": found["work"],
        "work_bytes": found["work_bytes"],
    }


def basis_in_use(basis: Basis | BasisInUse | None, run: str) -> BasisInUse:
    """Return the basis of a state, given its record; a state of an older version has none: its run fitted the basis."""
    if basis is None:
        return {"digest": None, "since": run}
    return {"digest": basis["digest"], "since": basis["since"]}
