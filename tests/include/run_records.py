"""Records of a run as the tasks hand them on, small but whole; a test changes what it is about."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from include.manifest import build_manifest
from include.settings import RunParams

SLUG = "20261122T120000Z-0123abcd"


def run_record(**changes: Any) -> dict[str, Any]:
    """What ``open_run`` returns."""
    return {
        "slug": SLUG,
        "run_id": "manual__2026-11-22T12:00:00+00:00",
        "run_after": "2026-11-22T12:00:00+00:00",
        "cluster_name": f"fruit-features {SLUG}",
        "lake": "file:///lake",
        "images": "file:///lake/data",
        "model": {"digest": "ab" * 32, "uri": "file:///lake/models/ab", "weights": {"source": "file"}},
        "params": asdict(RunParams()),
        "profile": "local",
        "region": "eu-west-3",
        "endpoints": {"emr": "http://127.0.0.1:1", "s3": "http://127.0.0.1:1"},
    } | changes


def featurize_summary(**changes: Any) -> dict[str, Any]:
    """What featurize writes."""
    return {
        "job": "featurize",
        "listed": 4,
        "features": 3,
        "rejects": 1,
        "rejects_by_reason": {"truncated": 1},
        "first_rejects": [{"path": "file:///lake/data/Kiwi/x.jpg", "reason": "truncated", "detail": "at byte 7"}],
        "dimensions": 1280,
        "seconds": {"list": 0.1, "featurize": 2.0, "total": 2.1},
    } | changes


def pca_summary(**changes: Any) -> dict[str, Any]:
    """What pca writes."""
    return {
        "job": "pca",
        "images": 3,
        "dimensions": 1280,
        "k": 2,
        "variance_target": 0.8,
        "variance_reached": 0.9,
        "explained_variance_ratio": [0.7, 0.2],
        "warnings": [],
        "seconds": {"moments": 0.5, "total": 0.6},
    } | changes


def manifest(**changes: Any) -> dict[str, Any]:
    """What ``publish_results`` writes last."""
    parts: dict[str, Any] = {
        "run": run_record(),
        "code": "feedface",
        "cluster_id": "j-1",
        "featurize": featurize_summary(),
        "pca": pca_summary(),
        "checked": {"warnings": []},
        "finished_at": "2026-11-22T12:05:00+00:00",
    }
    return build_manifest(**(parts | changes)) | {"results": ["part-0.parquet"]}
