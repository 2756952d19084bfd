"""Small but complete records of a run, as its tasks pass them on; a test changes the parts that it is about."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from include.cluster.planning import SizePlan, Work, plan_size
from include.cluster.rates import ASSUMED
from include.cost.account import account_cost
from include.cost.figures import measure_figures, plan_figures
from include.cost.forecast import forecast_cost
from include.lake.manifest import build_manifest
from include.residency.checks import ResidencyChecks
from include.residency.cluster import attest_cluster
from include.settings.deployment import Settings
from include.settings.parameters import RunParams
from spark_jobs import fingerprint
from spark_jobs.args import DEFAULT_PATTERN, FeaturizeArgs
from spark_jobs.left_out import LeftOutCounter
from spark_jobs.numerics import decomposition, moments
from spark_jobs.quality import certificate, drift
from tests.include.cluster_answers import CLUSTER, FLEETS, INSTANCES, NOW
from tests.include.price_tables import prices
from tests.spark_jobs.feature_runs import realistic

MODEL_DIGEST = "ab" * 32
JOBS = "0badc0de" * 8
"""Digest of the jobs' sources."""
MODEL_FILE = b"model"
"""The bytes of ``pca/model.npz``; these tests do not read it."""
SLUG, PREVIOUS = "20261122T120000Z-0123abcd", "20261121T120000Z-89abcdef"
ARGUMENTS = FeaturizeArgs("file:///lake/data", f"file:///lake/runs/{SLUG}", "file:///lake/models/ab")
FINGERPRINT = fingerprint.planned(MODEL_DIGEST, ARGUMENTS)
PARAMS = RunParams(core_instance_types=("c7g.2xlarge", "c6g.2xlarge"))
WEIGHTS = {"source": "file", "name": "weights.h5", "sha256": "cd" * 32, "seed": None}


def run_record(**changes: Any) -> dict[str, Any]:
    """The record that ``open_run`` returns."""
    return {
        "slug": SLUG,
        "run_id": "manual__2026-11-22T12:00:00+00:00",
        "run_after": "2026-11-22T12:00:00+00:00",
        "cluster_name": f"fruit-features {SLUG}",
        "round": "0123456789ab",
        "opened_at": "2026-11-22T12:00:00+00:00",
        "lake": "file:///lake",
        "images": "file:///lake/data",
        "model": {"digest": MODEL_DIGEST, "uri": "file:///lake/models/ab", "weights": {"source": "file"}},
        "previous": {"run": PREVIOUS, "pca_model": f"file:///lake/runs/{PREVIOUS}/pca/model.npz", "note": None},
        "params": asdict(RunParams()),
        "profile": "local",
        "region": "eu-west-3",
        "endpoints": {"emr": "http://127.0.0.1:1", "s3": "http://127.0.0.1:1"},
        "residency": residency_record()["before"],
    } | changes


def counts_record(**changes: Any) -> dict[str, Any]:
    """What has changed since the published state: here, there was none."""
    return {"listed": 4, "new": 4, "changed": 0, "gone": 0, "work": 4, "work_bytes": 406} | changes


def found_record(**changes: Any) -> dict[str, Any]:
    """The record that ``find_changes`` returns."""
    reasons = {"everything": "no state is published yet", "refit": None, "nothing_to_do": None, "base": None}
    return {"run": SLUG} | counts_record() | reasons | changes


def changes_record(**changes: Any) -> dict[str, Any]:
    """The file that ``find_changes`` writes."""
    return (
        counts_record()
        | {
            "folder": "file:///lake/data",
            "fingerprint": FINGERPRINT,
            "everything": "no state is published yet",
            "segments": [],
            "first_version": None,
            "published": None,
            "left_out": [LeftOutCounter().record("file:///lake/data", DEFAULT_PATTERN)],
        }
        | changes
    )


def segment_record(id_: str = f"{SLUG}-00112233-00000", **changes: Any) -> dict[str, Any]:
    """The record of a segment with three images and one reject."""
    return {
        "id": id_,
        "fingerprint": FINGERPRINT["digest"],
        "images": 4,
        "features": 3,
        "rejects": 1,
        "bytes": 20_000,
        "vectors": "ef" * 32,
        "first_path": "file:///lake/data/Kiwi/1.jpg",
        "last_path": "file:///lake/data/Kiwi/x.jpg",
        "results": [f"part-{id_}.parquet"],
    } | changes


def featurize_summary(**changes: Any) -> dict[str, Any]:
    """The summary that featurize writes."""
    return {
        "job": "featurize",
        "code": JOBS,
        "fingerprint": FINGERPRINT,
        "listed": 4,
        "featurized": 4,
        "rewritten": 0,
        "segments": 1,
        "features": 3,
        "rejects": 1,
        "rejects_by_reason": {"truncated": 1},
        "first_rejects": [{"path": "file:///lake/data/Kiwi/x.jpg", "reason": "truncated", "detail": "at byte 7"}],
        "skipped": 0,
        "hidden": 0,
        "left_out": [LeftOutCounter().record("file:///lake/data", DEFAULT_PATTERN)],
        "warnings": [],
        "dimensions": 1280,
        "model": {"digest": MODEL_DIGEST, "weights": WEIGHTS},
        "arguments": asdict(ARGUMENTS),
        "seconds": {"list": 0.1, "featurize": 2.0, "total": 2.1},
        "spark_version": "4.1.1",
    } | changes


@functools.cache
def _fit(images: int, shift: float) -> tuple[decomposition.FittedPca, Any]:
    found = moments.compute(realistic(images, 16).astype(np.float64) + shift)
    return decomposition.fit(found, n_components=2), found.covariance


def quality_record(**changes: Any) -> dict[str, Any]:
    """The quality certificate that the pca job computes."""
    labels = [f"label {row % 3}" for row in range(40)]
    return certificate.certify(realistic(40, 16), labels, _fit(40, 0)[0], 0) | changes


def drift_record(shift: float = 0, threshold: float = 0.1) -> dict[str, Any]:
    """The comparison with the previous run that the pca job computes."""
    current, covariance = _fit(40, shift)
    return drift.compare(_fit(30, 0)[0], current, covariance, threshold)


def basis_record(**changes: Any) -> dict[str, Any]:
    """The basis that the run has fitted; the one before is similar."""
    before = {"digest": "be" * 32, "since": PREVIOUS}
    axes = [{"new": 1, "cosine": 0.998, "inside": 0.999}, {"new": 2, "cosine": -0.75, "inside": 0.8}]
    fitted = {"digest": hashlib.sha256(MODEL_FILE).hexdigest(), "since": SLUG, "kept": False, "why_fitted": None}
    return fitted | {"copied": 0, "before": before, "drift": None, "axes": axes} | changes


def kept_basis_record(**changes: Any) -> dict[str, Any]:
    """The basis of the run before, kept by this one."""
    before = {"digest": hashlib.sha256(MODEL_FILE).hexdigest(), "since": PREVIOUS}
    kept = {"kept": True, "copied": 2, "before": before, "drift": drift_record(threshold=0.9), "axes": []}
    return basis_record() | before | kept | changes


def pca_summary(**changes: Any) -> dict[str, Any]:
    """The summary that pca writes."""
    return {
        "job": "pca",
        "code": JOBS,
        "images": 3,
        "dimensions": 1280,
        "k": 2,
        "variance_target": 0.8,
        "n_components": None,
        "scores": "projected",
        "variance_reached": 0.9,
        "explained_variance_ratio": [0.7, 0.2],
        "csv": {"rows": 3, "columns": 3, "bytes": 100},
        "moments": {"stored": 1, "computed": {}},
        "quality": quality_record(),
        "basis": basis_record(),
        "drift": drift_record(threshold=0.9),
        "warnings": [],
        "seconds": {"moments": 0.5, "total": 0.6},
        "arguments": {},
    } | changes


def insights_record(
    *,
    labels: Sequence[str] = ("Kiwi", "Plum"),
    names: Sequence[str] = ("1.jpg", "2.jpg"),
    photos: int = 6,
    thumbnail: str | None = "UklGRg==",
) -> dict[str, Any]:
    """What the pca job writes for the report; every list names the same few photos."""
    shown = [
        {
            "path": f"file:///lake/data/{labels[number % len(labels)]}/{number}{names[number % len(names)]}",
            "label": labels[number % len(labels)],
            "thumbnail": thumbnail,
        }
        for number in range(photos)
    ]
    group = {"kind": "identical_bytes", "size": 3, "photos": [0, 1], "labels": list(labels), "distance": 0.0}
    return {
        "images": photos,
        "seed": 0,
        "reference": {"photos": photos, "labels": len(labels)},
        "photos": shown,
        "map": {"photos": list(range(photos)), "scores": [[float(number) for number in range(photos)]] * 3},
        "ends": [[0, 1], [2, 3], [4], [5]],
        "unlike": {
            "count": 30,
            "judged": 31,
            "rows": [{"photo": 0, "looks_like": labels[-1], "votes": 5, "nearest": 1}],
        },
        "outliers": {"count": 1, "rows": [{"photo": 2, "times_usual": 7.25}, {"photo": 3, "times_usual": None}]},
        "duplicates": {
            "groups": [group, group | {"kind": "equal_features"}, group | {"kind": "near_features", "size": 2}],
            "count": 41,
            "photos": 99,
            "complete": False,
        },
        "neighbours": [{"photo": 4, "nearest": [5, 0], "distances": [0.1, 0.2]}],
        "variance_curve": [0.7, 0.88, 0.91, 0.94, 0.96, 0.99],
        "rejects": [5],
    }


def plan_record(**changes: Any) -> dict[str, Any]:
    """The part of ``plan_cluster``'s record that the manifest keeps; ``changes`` as for :func:`forecast_record`."""
    forecast = forecast_record(**changes)
    return {"code": "feedface", "forecast": forecast, "sizing": plan_figures(size_plan(), forecast)}


def size_plan() -> SizePlan:
    """A cluster of four worker nodes for 10,000 images."""
    params = replace(PARAMS, min_worker_nodes=4, max_worker_nodes=4)
    return plan_size(Work(10_000, 50_000_000, 10_000), params, ASSUMED)


def sizing_record(cost: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The plan and the outcome; ``changes`` are changes of featurize's summary."""
    plan, featurize = plan_record()["sizing"], featurize_summary(**changes)
    outcome = measure_figures(plan, counts_record(), featurize, pca_summary(), cost)  # type: ignore[arg-type]
    return {"plan": plan, "outcome": outcome}


def created_record() -> dict[str, Any]:
    """The cluster that ran the last step."""
    return {"cluster_id": "j-1", "attestation": residency_record()["cluster"]}


def manifest(**changes: Any) -> dict[str, Any]:
    """The manifest that ``publish_results`` builds; ``changes`` are arguments of ``build_manifest``."""
    run = changes.get("run") or run_record()
    parts: dict[str, Any] = {
        "run": run,
        "found": found_record(run=run["slug"]),
        "segments": [segment_record()],
        "plan": plan_record(),
        "created": created_record(),
        "featurize": featurize_summary(),
        "pca": pca_summary(),
        "verified": {"warnings": []},
        "finished_at": "2026-11-22T12:05:00+00:00",
        "sizing": sizing_record(),
        "cost": None,
    }
    return build_manifest(**(parts | changes))  # type: ignore[return-value]


def unchanged_report(**changes: Any) -> dict[str, Any]:
    """The report of a run that had nothing to do."""
    return {
        "run": SLUG,
        "run_id": "scheduled",
        "finished_at": "2026-11-23T12:00:12+00:00",
        "state": "unchanged",
        "published_run": PREVIOUS,
        "images": 1_234_567,
        "changes": counts_record(listed=1_234_570, new=0, work=0, work_bytes=0),
        "featurized": 0,
        "duration": 12.3,
        "rejects": 3,
        "k": 40,
        "variance_reached": 0.801234,
        "basis": {"digest": "be" * 32, "since": PREVIOUS},
    } | changes


def failure_report(**changes: Any) -> dict[str, Any]:
    """The report of a run that failed before it was opened."""
    return {
        "run": SLUG,
        "run_id": "manual__2026-11-22T12:00:00+00:00",
        "finished_at": "2026-11-22T12:05:00+00:00",
        "state": "failed",
        "failed_tasks": [],
        "tasks_not_run": ["plan_cluster (upstream_failed)"],
        "published_run": PREVIOUS,
        "profile": "local",
        "region": "eu-west-3",
        "images_folder": None,
        "params": None,
        "code": None,
        "model": None,
        "cluster": {"id": "", "name": f"fruit-features {SLUG}"},
        "images": None,
        "rejects": None,
        "rejects_by_reason": {},
        "first_rejects": [],
        "skipped": None,
        "hidden": None,
        "left_out": [],
        "attestations": [residency_record()["before"]],
        "forecast": None,
        "cost": None,
    } | changes


def cost_record(**changes: Any) -> dict[str, Any]:
    """The record that ``report_cost`` returns; ``changes`` are arguments of ``account_cost``."""
    arguments: dict[str, Any] = {
        "prices": prices(),
        "cluster": CLUSTER,
        "instances": INSTANCES,
        "fleets": FLEETS,
        "stored_bytes": 50 * 2**30,
        "images": 10_000,
        "now": NOW,
    }
    return account_cost(**(arguments | changes))


def forecast_record(**changes: Any) -> dict[str, Any]:
    """The forecast of ``plan_cluster``; ``changes`` are parts of the price table."""
    return forecast_cost(prices(**changes), PARAMS, size_plan())


def residency_record() -> dict[str, Any]:
    """Both attestations of a local run, with one check that only production runs have."""
    checks = ResidencyChecks(Settings(aws_conn_id=None))
    checks.expect("region of the bucket, by HeadBucket", "FRUITS_LAKE", "the-lake", "eu-west-3", "eu-west-3", "")
    local = Settings(profile="local", aws_conn_id=None)
    return {"before": checks.attest(), "cluster": attest_cluster(local, {"Id": "j-1"}, {}, [])}
