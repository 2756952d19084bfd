"""The layout of the lake: the URI of everything in it. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from spark_jobs import args


def run_slug(run_id: str, run_after: datetime) -> str:
    """Return the run's name in the lake: ``YYYYMMDDTHHMMSSZ-`` and 8 hex digits of the SHA-256 of the run id.

    Airflow's run ids contain ``:`` and ``+``, on which Hadoop's globbing fails. ``run_after`` is always set (unlike
    ``logical_date``), and names that start with it sort by time.

    Parameters
    ----------
    run_id : str
        Airflow's run id, such as ``manual__2026-11-22T07:20:50.458586+00:00``.
    run_after : datetime
        The run's ``run_after``, with a time zone.

    Raises
    ------
    ValueError
        If ``run_after`` has no time zone.
    """
    if run_after.tzinfo is None:
        raise ValueError(f"run_after={run_after!r} has no time zone; expected Airflow's aware datetime")
    stamp = run_after.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{stamp}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


SLUG = r"^\d{8}T\d{6}Z-[0-9a-f]{8}(-[0-9a-f]{8})?$"
"""Regular expression of the names of runs: what :func:`run_slug` returns, and :func:`repeated_slug` of it."""


def repeated_slug(slug: str, round_: str) -> str:
    """Return the name of a run that has published before and is repeated; its files must not replace published ones.

    Parameters
    ----------
    slug : str
        The run's slug.
    round_ : str
        ``round`` of the repetition: 12 hexadecimal digits.
    """
    return f"{slug}-{round_[:8]}"


DEFAULT_LAKE = ".local/lake"
"""The lake of ``make run``, in the folder of the Makefile."""


def read_root(lake: str | None, relative_to: str) -> str:
    """Return the URI of a lake that a person names on a command line, without a slash at its end.

    Parameters
    ----------
    lake : str or None
        A folder or a URI; None is the lake of ``make run``.
    relative_to : str
        The folder to which a relative path refers.
    """
    if lake is None:
        return f"file://{Path(DEFAULT_LAKE).resolve()}"
    if "://" in lake:
        return lake.rstrip("/")
    return f"file://{Path(relative_to, Path(lake).expanduser()).resolve()}"


FIRST_VERSION_MANIFEST = "manifest.json"
"""File of a run that the first version of the lake has published."""


@dataclass(frozen=True)
class RunLocations:
    """The files and folders of one run; ``root`` is ``<lake>/runs/<slug>``."""

    root: str

    @property
    def listing(self) -> str:
        """The listing of all images, written by find_changes."""
        return f"{self.root}/{args.LISTING_FILE}"

    @property
    def changes(self) -> str:
        """What has changed in the folder of images since the published state, written by find_changes."""
        return f"{self.root}/{args.CHANGES_FILE}"

    @property
    def work_list(self) -> str:
        """The images that featurize has to compute."""
        return f"{self.root}/{args.WORK_FILE}"

    @property
    def gone(self) -> str:
        """The paths whose rows leave the segments."""
        return f"{self.root}/{args.GONE_FILE}"

    @property
    def live_segments(self) -> str:
        """The segments of the run's state, written by featurize."""
        return f"{self.root}/{args.LIVE_SEGMENTS_FILE}"

    @property
    def rejects(self) -> str:
        """Files that featurize could not turn into features."""
        return f"{self.root}/{args.REJECTS_FOLDER}"

    @property
    def featurize_summary(self) -> str:
        """The summary of featurize; it exists if the job has completed."""
        return f"{self.root}/{args.FEATURIZE_SUMMARY_FILE}"

    @property
    def pca_summary(self) -> str:
        """The summary of pca; it exists if the job has completed."""
        return f"{self.root}/{args.PCA_SUMMARY_FILE}"

    @property
    def scores(self) -> str:
        """Scores: the principal components of every image."""
        return f"{self.root}/{args.SCORES_FOLDER}"

    @property
    def pca_model(self) -> str:
        """The fitted PCA."""
        return f"{self.root}/{args.PCA_MODEL_FILE}"

    @property
    def pca_fit(self) -> str:
        """The run's own fit, if its scores are projections on a kept basis."""
        return f"{self.root}/{args.PCA_FIT_FILE}"

    @property
    def csv(self) -> str:
        """The scores as CSV, in the notebook's format."""
        return f"{self.root}/{args.CSV_FILE}"

    @property
    def insights(self) -> str:
        """What the report shows of the photos, and which photos it embeds."""
        return f"{self.root}/{args.INSIGHTS_FILE}"

    def progress(self, job: str) -> str:
        """Return the file in which a job says how far it is, while it runs."""
        return f"{self.root}/{args.PROGRESS_FILE.format(job)}"

    @property
    def report_json(self) -> str:
        """The report, for programs."""
        return f"{self.root}/report.json"

    @property
    def report_html(self) -> str:
        """The report, for people."""
        return f"{self.root}/report.html"

    @property
    def first_version_manifest(self) -> str:
        """The manifest of a run that the first version of the lake has published."""
        return f"{self.root}/{FIRST_VERSION_MANIFEST}"

    @property
    def cost(self) -> str:
        """The cost of the run, whether or not it has published."""
        return f"{self.root}/cost.json"


@dataclass(frozen=True)
class Lake:
    """The files and folders of the lake; ``root`` is ``s3://bucket[/folder]`` or ``file:///path``."""

    root: str

    def relative(self, uri: str) -> str:
        """Return the path in the lake of something in it."""
        return uri.removeprefix(f"{self.root}/")

    def absolute(self, path: str) -> str:
        """Return the URI of a path in the lake."""
        return f"{self.root}/{path}"

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
        """Return a run's file in the table of all reports, which is partitioned by run and has one row per run."""
        return f"{self.reports}/run={slug}/report.json"

    @property
    def reports(self) -> str:
        """The folder of the table of all reports."""
        return f"{self.root}/reports"

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
        """The file that names the model that runs use by default."""
        return f"{self.models}/current.json"

    def model(self, digest: str) -> str:
        """Return the folder of a model."""
        return f"{self.models}/{digest}"

    @property
    def segments(self) -> str:
        """The folder of all segments."""
        return f"{self.root}/{args.SEGMENTS_FOLDER}"

    def features(self, segment: str) -> str:
        """Return the features of a segment."""
        return f"{self.segments}/{segment}/{args.FEATURES_FILE}"

    @property
    def manifests(self) -> str:
        """The folder of the manifests of all states."""
        return f"{self.root}/manifests"

    @property
    def erasures(self) -> str:
        """The folder of the receipts of erasures."""
        return f"{self.root}/erasures"

    @property
    def denylist(self) -> str:
        """The denylist of erased photos."""
        return f"{self.erasures}/denylist.json"

    @property
    def logs(self) -> str:
        """The folder to which clusters write their logs."""
        return f"{self.root}/logs/"

    @property
    def results(self) -> str:
        """The published features, in the notebook's format."""
        return f"{self.root}/results"

    @property
    def results_csv(self) -> str:
        """The published principal components, in the notebook's format."""
        return f"{self.root}/results_csv/pca_features.csv"

    @property
    def current(self) -> str:
        """The pointer to the manifest of the published state."""
        return f"{self.root}/current.json"

    @property
    def shown(self) -> str:
        """The record of the state that ``results/`` and ``results_csv/`` show."""
        return f"{self.root}/results.json"
