"""Where everything is in the lake: settings and a run's identity to URIs. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from spark_jobs import args


def run_slug(run_id: str, run_after: datetime) -> str:
    """Return the run's name in the lake: ``YYYYMMDDTHHMMSSZ-`` and 8 hex digits of the run id's sha256.

    Airflow's own run ids hold ``:`` and ``+``, on which Hadoop's globbing fails. ``run_after`` is always set, where
    ``logical_date`` may be None, and it sorts by time.

    Parameters
    ----------
    run_id : str
        Airflow's run id, such as ``manual__2026-11-22T07:20:50.458586+00:00``.
    run_after : datetime
        The run's ``run_after``, with a time zone.

    Raises
    ------
    ValueError
        When ``run_after`` has no time zone.
    """
    if run_after.tzinfo is None:
        raise ValueError(f"run_after={run_after!r} has no time zone; expected Airflow's aware datetime")
    stamp = run_after.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{stamp}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


SLUG = r"^\d{8}T\d{6}Z-[0-9a-f]{8}$"
"""What :func:`run_slug` returns."""


@dataclass(frozen=True)
class RunLocations:
    """What one run reads and writes; ``root`` is ``<lake>/runs/<slug>``."""

    root: str

    @property
    def listing(self) -> str:
        """The job's own listing of the images."""
        return f"{self.root}/{args.LISTING_FILE}"

    @property
    def features(self) -> str:
        """Features, one row an image."""
        return f"{self.root}/{args.FEATURES_FOLDER}"

    @property
    def rejects(self) -> str:
        """Files that could not become features."""
        return f"{self.root}/{args.REJECTS_FOLDER}"

    @property
    def featurize_summary(self) -> str:
        """What featurize did; there when it has completed."""
        return f"{self.root}/{args.FEATURIZE_SUMMARY_FILE}"

    @property
    def pca_summary(self) -> str:
        """What pca did; there when it has completed."""
        return f"{self.root}/{args.PCA_SUMMARY_FILE}"

    @property
    def scores(self) -> str:
        """Principal components of every image."""
        return f"{self.root}/{args.SCORES_FOLDER}"

    @property
    def pca_model(self) -> str:
        """The fitted PCA."""
        return f"{self.root}/{args.PCA_MODEL_FILE}"

    @property
    def csv(self) -> str:
        """The scores as the notebook's CSV."""
        return f"{self.root}/{args.CSV_FILE}"

    @property
    def report_json(self) -> str:
        """What happened, for programs."""
        return f"{self.root}/report.json"

    @property
    def report_html(self) -> str:
        """What happened, for people."""
        return f"{self.root}/report.html"

    @property
    def cost(self) -> str:
        """What the run has cost, published or not."""
        return f"{self.root}/cost.json"

    @property
    def manifest(self) -> str:
        """The run's record; written last."""
        return f"{self.root}/manifest.json"


@dataclass(frozen=True)
class Lake:
    """The folders of the lake; ``root`` is ``s3://bucket[/folder]`` or ``file:///path``."""

    root: str

    def data(self, prefix: str) -> str:
        """Return the folder of the images."""
        return f"{self.root}/{prefix.strip('/')}"

    def run(self, slug: str) -> RunLocations:
        """Return the locations of a run."""
        return RunLocations(f"{self.runs}/{slug}")

    @property
    def runs(self) -> str:
        """The folder of all runs."""
        return f"{self.root}/runs"

    def report(self, slug: str) -> str:
        """Return a run's report among those of all runs: a table, partitioned by run, of one row a run."""
        return f"{self.root}/reports/run={slug}/report.json"

    def code(self, digest: str) -> str:
        """Return the folder of a code bundle."""
        return f"{self.root}/code/{digest}"

    def wheels(self, digest: str) -> str:
        """Return the folder of a wheelhouse."""
        return f"{self.root}/wheels/{digest}"

    @property
    def models(self) -> str:
        """The folder of all models."""
        return f"{self.root}/models"

    @property
    def published_model(self) -> str:
        """The record of the model that runs use when no other is set."""
        return f"{self.models}/current.json"

    def model(self, digest: str) -> str:
        """Return the folder of a model."""
        return f"{self.models}/{digest}"

    @property
    def logs(self) -> str:
        """Where clusters put their logs."""
        return f"{self.root}/logs/"

    @property
    def results(self) -> str:
        """The published features, as the notebook wrote them."""
        return f"{self.root}/results"

    @property
    def results_csv(self) -> str:
        """The published principal components, as the notebook wrote them."""
        return f"{self.root}/results_csv/pca_features.csv"

    @property
    def current(self) -> str:
        """The record of the published run."""
        return f"{self.root}/current.json"
