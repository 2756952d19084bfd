"""The run's record: what it made, from what, with which code and weights. Pure."""

from __future__ import annotations

from typing import Any


def build_manifest(
    *,
    run: dict[str, Any],
    code: str,
    cluster_id: str,
    featurize: dict[str, Any],
    pca: dict[str, Any],
    checked: dict[str, Any],
    finished_at: str,
    residency: dict[str, Any],
    forecast: dict[str, Any],
    cost: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the manifest.

    Parameters
    ----------
    run : dict
        What ``open_run`` found: identity, parameters, model, addresses.
    code : str
        Digest of the code bundle.
    cluster_id : str
        EMR's id of the cluster.
    featurize, pca : dict
        The jobs' summaries.
    checked : dict
        What ``verify_results`` found.
    finished_at : str
        ISO 8601 time in UTC.
    residency : dict
        The attestations: ``before`` anything was created, and ``cluster``, of what EMR has made.
    forecast : dict
        What the run was to cost.
    cost : dict or None
        What it has cost; None when that could not be told.
    """
    weights = run["model"]["weights"]
    warnings = list(checked["warnings"])
    if weights["source"] == "random":
        warnings.insert(0, "RANDOM WEIGHTS: this is a demonstration, its features mean nothing")
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
        "code": code,
        "model": run["model"],
        "previous": run["previous"],
        "cluster": {"id": cluster_id, "name": run["cluster_name"]},
        "featurize": featurize,
        "pca": pca,
        "residency": residency,
        "forecast": forecast,
        "cost": cost,
        "warnings": warnings,
    }
