"""The records that cross a task boundary or are files in the lake: one typed definition each.

Airflow's XCom and JSON files carry plain dicts, so these are TypedDicts. The jobs' own summaries are in
:mod:`spark_jobs.records`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from spark_jobs.records import (
    Basis,
    BasisInUse,
    ChangeCounts,
    Drift,
    FeaturizeSummary,
    Fingerprint,
    LeftOut,
    PcaSummary,
    Quality,
    RejectedFile,
    Seconds,
    Segment,
)
from spark_jobs.records import ModelFile as ModelFile  # for callers outside include

CLUSTER_ID = "job_flow_id"
"""XCom key of the tasks that create or find a cluster: its id."""

ATTESTATION = "attestation"
"""XCom key of the tasks that add steps: the checks of the cluster that EMR created."""

FAILURE = "failure"
"""XCom key of a task that failed: a :class:`TaskFailure` without the task's name."""

JsonObject = dict[str, Any]
"""A JSON object whose keys are not ours, or not checked yet."""

StepRequest = dict[str, Any]
"""One item of ``Steps`` in EMR's AddJobFlowSteps."""

ClusterRequest = dict[str, Any]
"""The arguments of EMR's RunJobFlow."""

Params = dict[str, Any]
"""A run's parameters by name, as JSON: the fields of :class:`include.settings.parameters.RunParams`."""


class ModelRecord(ModelFile):
    """The model that a run uses."""

    uri: str
    """The model's folder."""


class PublishedModel(TypedDict):
    """``models/current.json``: the model that runs use by default."""

    model: str
    """Name of the model's folder."""


class LockFile(TypedDict):
    """The lock that a wheelhouse was built from."""

    file: str
    sha256: str


class WheelFile(TypedDict):
    """One wheel."""

    name: str
    bytes: int
    sha256: str


class ArchitectureWheels(TypedDict):
    """The wheels for one architecture, and their total size."""

    bytes: int
    wheels: list[WheelFile]


class Wheelhouse(TypedDict):
    """``wheels.json``: the wheels of a wheelhouse by architecture."""

    requirements: LockFile
    python: str
    """Version of Python, ``3.11``."""
    architectures: dict[str, ArchitectureWheels]


class Previous(TypedDict):
    """The run that was published when this run started, for the comparison of the principal components."""

    run: str | None
    """Its slug."""
    pca_model: str | None
    """URI of the PCA that was fitted on its features."""
    note: str | None
    """Why there is no comparison."""


class Check(TypedDict):
    """One question about where data may be, and its answer."""

    what: str
    setting: str
    value: str
    answer: str | None
    verdict: Literal["allowed", "refused", "unknown"]
    checked_at: str
    """ISO 8601 time in UTC."""


class Attestation(TypedDict):
    """All checks of one occasion: before the run, or of the cluster that EMR has created."""

    profile: str
    region: str
    allowed_regions: list[str]
    checked_at: str
    """ISO 8601 time in UTC."""
    verdict: Literal["allowed"]
    checks: list[Check]
    note: NotRequired[str]
    endpoints: NotRequired[dict[str, str]]
    """Before the run: the address of each AWS service."""
    cluster_id: NotRequired[str | None]
    """Of the cluster: its id in EMR."""


class Residency(TypedDict):
    """Both attestations of a run."""

    before: Attestation
    cluster: Attestation


class Run(TypedDict):
    """The record that ``open_run`` returns: the run's identity and everything that later tasks share."""

    slug: str
    """The run's name in the lake."""
    run_id: str
    """Airflow's run id."""
    run_after: str
    """ISO 8601 time with its zone."""
    cluster_name: str
    round: str
    """A new value each time ``open_run`` runs; the clusters of one round carry it as a tag."""
    opened_at: str
    """ISO 8601 time in UTC at which the round began."""
    lake: str
    """URI of the lake's root."""
    images: str
    """URI of the folder of images."""
    model: ModelRecord
    previous: Previous
    params: Params
    profile: str
    region: str
    endpoints: dict[str, str]
    residency: Attestation


class AmountRecord(TypedDict):
    """An amount of money: at least, and at most; ``high`` is None when a price is unknown."""

    low: float
    high: float | None


class ImagesPerEuro(TypedDict):
    """How many images a euro pays for, at least and at most."""

    low: float | None
    high: float | None


class ForecastCase(TypedDict):
    """Duration and cost of a run under one assumption."""

    seconds: int
    usd: AmountRecord
    eur: AmountRecord


class TableOrigin(TypedDict):
    """Name of a price table, its exchange rate, and the sources of its prices."""

    table: str
    eur_per_usd: JsonObject
    sources: JsonObject


class PriceDate(TypedDict):
    """Region and date of a price table."""

    region: str
    date: str


class PriceOrigin(PriceDate, TableOrigin):
    """Region, date and sources of a price table."""


class Forecast(TypedDict):
    """The expected cost of a run, computed before it starts."""

    prices: PriceDate
    images: int
    """Images to compute."""
    expected: ForecastCase
    worst: ForecastCase
    unknown: list[str]
    assumptions: list[str]


class CostLine(TypedDict):
    """One priced item of a run."""

    what: str
    fleet: str
    market: str
    instance_type: str
    instances: int
    hours: float
    usd: AmountRecord


class FleetCost(TypedDict):
    """The cost of one fleet and market."""

    fleet: str
    market: str
    instances: int
    hours: float
    usd: AmountRecord
    eur: AmountRecord


class StorageCost(TypedDict):
    """The cost of storing the run's files for a month, which is not part of the run's cost."""

    bytes: int | None
    usd_per_month: AmountRecord
    eur_per_month: AmountRecord


class TimelinePart(TypedDict):
    """A part of a cluster's life."""

    what: Literal["start", "step", "end"]
    """The start-up, a step, or the shutdown."""
    name: str
    """Of the step; empty for the others."""
    start: str
    """ISO 8601 time."""
    end: str


class Cost(TypedDict):
    """``cost.json``: the cost of a run, computed from the instances that EMR reports."""

    cluster_id: str | None
    counted_at: str
    instance_hours: float
    prices: PriceOrigin
    lines: list[CostLine]
    fleets: list[FleetCost]
    usd: AmountRecord
    eur: AmountRecord
    complete: bool
    storage: StorageCost
    images: int
    images_per_eur: ImagesPerEuro
    unknown: list[str]
    notes: list[str]
    timeline: NotRequired[list[TimelinePart]]
    """What the run's clusters did when, the first part first."""


class ClusterFigures(TypedDict):
    """What a cluster is expected to do, or what it has done. Amounts of money are shared out by time."""

    vcpus: int
    """Number of tasks that run at the same time, as planned."""
    images: int
    """Images that featurize computes."""
    bytes: int
    """Their total size."""
    listed: int
    """Images that pca reads."""
    images_per_second_per_vcpu: float | None
    """None without images."""
    start_and_stop_seconds: float | None
    """The cluster's lifetime outside of the next two figures; None if its lifetime is unknown."""
    featurize_seconds: float
    """Time of the parts of featurize that grow with the number of images."""
    pca_seconds: float
    """The same of pca."""
    seconds: float | None
    """From the creation of the cluster to its termination; None if it is unknown."""
    eur: AmountRecord | None
    """None, like the other amounts, if the cost is unknown."""
    start_and_stop_eur: AmountRecord | None
    eur_per_image_at_the_margin: AmountRecord | None
    """Of the time of featurize: what an additional image costs; None without images."""
    eur_per_image: AmountRecord | None
    """Of everything; None without images."""


class ClusterPlan(ClusterFigures):
    """The planned cluster, and what it is expected to do."""

    core_nodes: int
    """On-demand nodes, in capacity units; 0 if the primary node does the work."""
    task_nodes: int
    """Spot nodes, in capacity units."""
    deadline_minutes: int
    meets_deadline: bool
    rates: str
    """Where the expected rates come from."""


class Sizing(TypedDict):
    """The planned cluster, and what it has done."""

    plan: ClusterPlan
    outcome: ClusterFigures


class PlanSummary(TypedDict):
    """The part of the plan that the manifest keeps."""

    code: str
    """Digest of the code bundle."""
    forecast: Forecast
    sizing: ClusterPlan


class Plan(PlanSummary):
    """The record that ``plan_cluster`` returns: all requests of the run, as data."""

    summary: str
    """The planned cluster in one line, for people: images, nodes, minutes, cost."""
    jobs: str
    """Digest of the jobs' sources, which the jobs report too."""
    job_flow_overrides: ClusterRequest
    featurize_steps: list[StepRequest]
    pca_steps: list[StepRequest]


class Created(TypedDict):
    """The cluster that the last step ran on."""

    cluster_id: str
    attestation: Attestation


class Verified(TypedDict):
    """The record that ``verify_results`` returns: figures of the run."""

    images: int
    rejects: int
    k: int
    variance_reached: float
    warnings: list[str]


class FoundChanges(ChangeCounts):
    """The record that ``find_changes`` returns; the lists of images and segments are in the run's folder."""

    run: str
    """Name of the run's folder in the lake: its slug, with a suffix if the run has published before."""
    everything: str | None
    """Why all images are computed, or None if only those that have changed are."""
    refit: str | None
    """Why the PCA is fitted although no image has changed; None otherwise."""
    nothing_to_do: str | None
    """Why the rest of the run is skipped; None if there is something to do."""
    base: str | None
    """SHA-256 of ``current.json`` as the run found it; None if there was none."""


class Current(TypedDict):
    """``current.json``: the pointer to the published state. Paths are relative to the lake's root."""

    manifest: str
    """Path of its manifest."""
    state: int
    """Its number; the first one is 1."""
    run: str
    """Slug of the run that published it."""
    run_id: str
    published_at: str
    """ISO 8601 time in UTC."""
    images: int
    rejects: int
    k: int
    variance_reached: float
    warnings: list[str]
    features: list[str]
    """Paths of the Parquet files of its features."""
    scores: str
    """Path of the folder of its scores."""
    csv: str
    """Path of its scores as CSV."""
    basis: NotRequired[BasisInUse]
    """The components on which its scores are projections: equal digests mean equal axes. Missing in old pointers."""


class Shown(TypedDict):
    """``results.json``: the state that ``results/`` and ``results_csv/`` show, written after they were updated."""

    manifest: str


class ClusterReference(TypedDict):
    """A cluster's id and name in EMR."""

    id: str
    name: str


class Manifest(TypedDict):
    """``manifests/<n>-<slug>.json``: a published state, and the run that made it. It is written once, never edited."""

    state: int
    """Number of the state; the first one is 1."""
    previous_manifest: str | None
    """Path of the previous state's manifest; None in the first state."""
    round: str
    """``round`` of the run."""
    changes: ChangeCounts
    fingerprint: Fingerprint
    segments: list[Segment]
    """The segments with its features and rejects, in the order in which their moments were merged."""
    results: list[str]
    """Names of its files in ``results/``."""

    run: str
    """The run's slug."""
    run_id: str
    run_after: str
    opened_at: str
    finished_at: str
    lake: str
    images_folder: str
    params: Params
    profile: str
    region: str
    endpoints: dict[str, str]
    code: str
    model: ModelRecord
    previous: Previous
    cluster: ClusterReference
    featurize: FeaturizeSummary
    pca: PcaSummary
    residency: Residency
    forecast: Forecast
    sizing: Sizing
    cost: Cost | None
    """None when it could not be computed."""
    warnings: list[str]
    erasures: NotRequired[list[str]]
    """Ids of the erasures that have rewritten it: it is as if the erased photos had never been there."""


class TaskFailure(TypedDict):
    """Why a task failed."""

    task: str
    kind: str
    """A class of :class:`include.autopsy.symptoms.Kind`, or the type of the exception."""
    cause: str
    advice: str
    """What to do; empty if nothing is known beyond the cause."""


class FailureReport(TypedDict):
    """``report.json`` of a run that failed without publishing. Fields that are also in a report mean the same."""

    run: str
    run_id: str
    finished_at: str
    state: Literal["failed"]
    failed_tasks: list[TaskFailure]
    tasks_not_run: list[str]
    """Names, each with its state: ``add_pca (upstream_failed)``."""
    published_run: str | None
    """The slug of the run whose results are published still; None if nothing is published."""
    profile: str
    region: str
    images_folder: str | None
    """None, like the other unknown fields, if the run failed before it was known."""
    params: Params | None
    code: str | None
    model: ModelRecord | None
    cluster: ClusterReference | None
    """The last cluster; its id is empty if the run has none."""
    images: int | None
    """Images with features; None unless featurize has completed."""
    rejects: int | None
    rejects_by_reason: dict[str, int]
    first_rejects: list[RejectedFile]
    skipped: int | None
    hidden: int | None
    left_out: list[LeftOut]
    attestations: list[Attestation]
    """Where the data may be: the checks before the run, then those of its cluster, as far as they were made."""
    forecast: Forecast | None
    cost: Cost | None


class Report(TypedDict):
    """``report.json``: the report of a run that has published its results."""

    run: str
    """The run's slug."""
    run_id: str
    finished_at: str
    state: Literal["success", "failed"]
    """``failed`` if a task failed although the results are published: for example ``terminate_cluster``."""
    failed_tasks: list[TaskFailure]
    images_folder: str
    params: Params
    region: str
    code: str
    model: ModelRecord
    cluster: ClusterReference
    warnings: list[str]
    images: int
    changes: ChangeCounts
    featurized: int
    """Images that the model saw in this run."""
    duration: float
    """Seconds from the start of ``open_run`` to publication."""
    rejects: int
    rejects_by_reason: dict[str, int]
    first_rejects: list[RejectedFile]
    skipped: int
    """Files that do not match the pattern, wherever they were left out."""
    hidden: int
    """Hidden files, wherever they were left out."""
    left_out: list[LeftOut]
    k: int
    variance_target: float | None
    variance_reached: float
    explained_variance_ratio: list[float]
    """One ratio per component."""
    quality: Quality | None
    previous_run: str | None
    basis: Basis | None
    """None if a version of the jobs without kept bases made the state: the run has fitted its own."""
    drift: Drift
    seconds: dict[str, Seconds]
    """Per job."""
    residency: Residency
    forecast: Forecast
    cost: Cost | None


class Unchanged(TypedDict):
    """``report.json`` of a run that found nothing to do. Fields that are also in a report mean the same."""

    run: str
    run_id: str
    finished_at: str
    state: Literal["unchanged"]
    published_run: str
    """The slug of the run whose results are published still."""
    images: int
    changes: ChangeCounts
    featurized: int
    duration: float
    rejects: int
    k: int
    variance_reached: float
    basis: BasisInUse


class HistoryRow(TypedDict):
    """A run in the history of the lake."""

    run: str
    """The run's slug."""
    finished_at: str
    images: int
    new: int
    changed: int
    gone: int
    rejected: int
    featurized: int
    """Images that the model saw."""
    k: int
    variance: float
    """Share of the variance that the components explain."""
    basis: str | None
    """Digest of the components; None if an old version of the jobs fitted them."""
    since: str
    """Slug of the run that fitted them."""
    seconds: float
    """From the start of the run to its publication."""
    cluster: str | None
    """Id of the cluster; None if none was created."""
    eur: float | None
    """Cost at most; None if a price is unknown."""


class ErasurePlan(TypedDict):
    """``erasures/<id>.plan.json``: an erasure that has begun. It names photos, and is deleted when it has ended."""

    erasure: str
    """Its id."""
    started_at: str
    """ISO 8601 time in UTC."""
    paths: list[str]
    """As requested, relative to the lake's root."""
    labels: list[str]
    keeps_photos: bool
    photos: list[str]
    """All photos that the request names, relative to the lake's root."""
    contents: list[str]
    """Keyed hashes of their bytes, as far as there were any to read."""
    vectors: list[str]
    """Keyed hashes of their vectors."""
    thumbnails: list[str]
    """Keyed hashes of their thumbnails in reports."""
    attempts: list[str]
    """Tokens of the attempts to rewrite the kept states."""
    before: dict[str, PlaceCounts]
    """What was found before anything was deleted, by place."""
    states: dict[str, StateCounts]
    """The kept states before, by number."""


class PlaceCounts(TypedDict):
    """What one place has."""

    files: int
    """Files that were searched, without old versions."""
    old_versions: int
    """Old versions of files, and markers of deleted files."""
    files_found: int
    """Files that have something of the erased photos."""
    rows_found: int
    """Rows of erased photos in these files."""


class StateCounts(TypedDict):
    """The size of a kept state: images with features, and rejects."""

    images: int
    rejects: int


class Remainder(TypedDict):
    """What an erasure leaves, and what deletes it."""

    what: str
    where: str
    rule: str


class Receipt(TypedDict):
    """``erasures/<id>.json``: the record of an erasure. Names are keyed hashes, with the key of the denylist."""

    erasure: str
    requested_at: str
    """ISO 8601 time in UTC, like ``finished_at``."""
    finished_at: str
    hash: str
    """The function of all keyed hashes."""
    requested: dict[str, list[str]]
    """Keyed hashes of the requested ``paths`` and ``labels``."""
    keeps_photos: bool
    """Whether the photos themselves stay, because the request says so."""
    photos: list[str]
    """Keyed hashes of the paths of all erased photos, relative to the lake's root."""
    contents: list[str]
    """Keyed hashes of their bytes, which are on the denylist."""
    vectors: list[str]
    """Keyed hashes of the bytes of their vectors: features, and scores in every kept state."""
    thumbnails: list[str]
    """Keyed hashes of their thumbnails, as reports have them: WebP in base64."""
    searched: dict[str, dict[str, PlaceCounts]]
    """Every place that was searched, with its counts ``before`` and ``after``."""
    states: dict[str, dict[str, StateCounts | None]]
    """Every kept state with its counts ``before`` and ``after``; after is None if it is not kept any more."""
    published_state: int
    remains: list[Remainder]
