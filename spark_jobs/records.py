"""The records that the jobs write for others to read: model.json, featurize.json and pca.json. Standard library only.

With :mod:`spark_jobs.args`, :mod:`spark_jobs.left_out` and :mod:`spark_jobs.walk`, this is the door between the other
sides and the jobs.
"""

from __future__ import annotations

from typing import TypedDict

Seconds = dict[str, float]
"""Seconds by name of the stage, in order, and the ``total`` of the job."""

Arguments = dict[str, str | int | float | bool | None]
"""The job's arguments by name: the fields of its class in :mod:`spark_jobs.args`."""


class Weights(TypedDict):
    """Where a model's weights come from."""

    source: str
    """``imagenet``, ``file`` or ``random``."""
    name: str
    """Name of the file, or ``random:SEED``."""
    sha256: str
    """Of the file; of seed and recipe if the weights are random."""
    seed: int | None
    """Of random weights."""


class ModelInput(TypedDict):
    """The pixels that a model expects."""

    height: int
    width: int
    channels: int
    order: str
    range: list[int]


class ModelFile(TypedDict):
    """``model.json``, which the export writes with the model."""

    digest: str
    """SHA-256 of the flatbuffer."""
    weights: Weights
    dimensions: int
    input: ModelInput
    difference: float
    """Largest difference from Keras, as a share of Keras's largest feature."""
    tensorflow: str
    keras: str


class UsedModel(TypedDict):
    """The model that computed a run's features."""

    digest: str
    weights: Weights


class RejectedFile(TypedDict):
    """A file that has no features, and why."""

    path: str
    reason: str
    """A key of :data:`spark_jobs.images.rejects.REASONS`."""
    detail: str


class ExtensionCount(TypedDict):
    """How many files have an extension."""

    extension: str
    """In lower case, with its dot; empty for a name without an extension."""
    files: int


class LeftOut(TypedDict):
    """Files of a folder that are not featurized because of their names (:mod:`spark_jobs.left_out`)."""

    folder: str
    pattern: str
    skipped: int
    """Files that do not match the pattern."""
    skipped_by_extension: list[ExtensionCount]
    """The most frequent extensions, at most 20."""
    skipped_in_readable_formats: int
    """Skipped files with the ending of a format that is read."""
    lost_labels: list[str]
    """Labels that have skipped files and no image, at most 50."""
    lost_label_count: int
    """Number of all these labels."""
    hidden: int
    """Files that are hidden or in a hidden or system folder; they are not in ``skipped``."""
    unreadable: int
    """Files that ``make run`` could not read, and so did not load; the job itself makes them rejects."""
    first_unreadable: list[str]
    """Paths of these files, at most 20."""


class FeaturizeSummary(TypedDict):
    """``featurize.json``. If the file exists, features and rejects are complete."""

    job: str
    code: str
    """Digest of the sources that ran (:func:`spark_jobs.sources.sources_digest`)."""
    listed: int
    """Files that match the pattern: the sum of ``features`` and ``rejects``."""
    skipped: int
    """Files that do not match the pattern."""
    hidden: int
    """Files that are hidden or in a hidden or system folder, which the job has ignored."""
    left_out: list[LeftOut]
    """The skipped and hidden files of the folder of images; then, if ``make run`` loaded that folder from another one,
    the files that it did not load."""
    features: int
    rejects: int
    rejects_by_reason: dict[str, int]
    """The most frequent reason first."""
    first_rejects: list[RejectedFile]
    warnings: list[str]
    dimensions: int
    model: UsedModel
    arguments: Arguments
    seconds: Seconds
    spark_version: str


class MomentsOrigin(TypedDict):
    """Which moments the fit used."""

    stored: int
    """Number of feature files whose stored moments were used."""
    computed: dict[str, str]
    """The feature files whose moments were computed from the vectors, each with the reason."""


class Accuracy(TypedDict):
    """Nearest-neighbour accuracy of the labels in the sample, by all features and by the components.

    A value that is not defined is None, and ``note`` gives the reason.
    """

    features: float | None
    components: float | None
    asked: int
    """Images that were classified: those whose label has another image in the sample."""
    lost: int
    """Images that are classified correctly by all features only."""
    gained: int
    """Images that are classified correctly by the components only."""
    note: str | None


class Silhouette(TypedDict):
    """Mean silhouette coefficient of the labels, from −1 to 1, by all features and by the components."""

    features: float | None
    components: float | None
    note: str | None


class Reconstruction(TypedDict):
    """What is lost when the features are rebuilt from the components."""

    variance_missed: float | None
    """Share of the sample's squared distance from the model's mean."""
    rmse: float | None
    """Root mean square error of a feature, in the features' unit."""
    note: str | None


class LabelAccuracy(TypedDict):
    """Nearest-neighbour accuracy of one label; None if it has one image only."""

    label: str
    images: int
    features: float | None
    components: float | None


class Quality(TypedDict):
    """The certificate of quality: what the components retain of the features, measured on a sample."""

    images: int
    sample_images: int
    seed: int
    labels: int
    """Number of labels in the sample."""
    dimensions: int
    k: int
    knn_accuracy: Accuracy
    silhouette: Silhouette
    reconstruction: Reconstruction
    by_label: list[LabelAccuracy]
    """In the order of the labels' names."""


class Change(TypedDict):
    """A figure of the previous run and of this one."""

    previous: float
    current: float


class Measure(TypedDict):
    """A measure of drift, and its expected value between two samples of unchanged features."""

    value: float | None
    by_chance: float | None


class Drift(TypedDict):
    """How the features have changed since the previous model; None where a figure is not defined."""

    reason: str | None
    """Why there is no comparison; None if there is one."""
    threshold: float | None
    images: Change | None
    k: Change | None
    total_variance: Change | None
    mean_shift: Measure | None
    """Distance of the means, in standard deviations of the previous features."""
    variance_change: Measure | None
    """Relative change of the total variance."""
    variance_missed: Measure | None
    """Share of the variance explained by the best k components that the previous k components miss."""
    variance_explained: Change | None
    """Shares of the total variance explained by the previous k components and by the best k."""
    largest_angle: float | None
    """In degrees."""
    subspace_distance: float | None
    """Mean squared sine of the principal angles, from 0 to 1."""
    principal_angles: list[float]
    """In degrees, ascending."""
    warnings: list[str]


class PcaSummary(TypedDict):
    """``pca.json``. If the file exists, the outputs of the job are complete."""

    job: str
    code: str
    """Digest of the sources that ran (:func:`spark_jobs.sources.sources_digest`)."""
    images: int
    dimensions: int
    k: int
    """Number of components that were kept."""
    variance_target: float | None
    n_components: int | None
    scores: str
    variance_reached: float
    explained_variance_ratio: list[float]
    moments: MomentsOrigin
    quality: Quality | None
    """None if no sample was requested."""
    drift: Drift
    warnings: list[str]
    seconds: Seconds
    arguments: Arguments
