"""The records that the jobs write for others to read: model.json, featurize.json and pca.json. Standard library only.

With :mod:`spark_jobs.args`, :mod:`spark_jobs.left_out` and :mod:`spark_jobs.walk`, this is the door between the other
sides and the jobs.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

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


class Fingerprint(TypedDict):
    """What the features of an image depend on, apart from the image (:mod:`spark_jobs.fingerprint`)."""

    digest: str
    """SHA-256 of ``inputs``."""
    inputs: dict[str, str | int | float]
    """Everything that affects the numbers, by name."""


class Segment(TypedDict):
    """``segment.json``, which is written last: the rows of some images. A segment is never edited."""

    id: str
    """Name of its folder."""
    fingerprint: str
    """Digest of the fingerprint of its features."""
    images: int
    """The sum of ``features`` and ``rejects``."""
    features: int
    rejects: int
    bytes: int
    """Size of its file of features; 0 without features."""
    vectors: str | None
    """Digest of its vectors; None without features."""
    first_path: str
    """The smallest path of its images, in the order of UTF-8 bytes."""
    last_path: str
    """The largest path of its images."""
    results: list[str]
    """Names of the files in ``results/`` that have its rows."""


class ChangeCounts(TypedDict):
    """What has changed in the folder of images since the published state."""

    listed: int
    """Images in the folder now."""
    new: int
    """Images whose path is not in the published state."""
    changed: int
    """Images whose path is in the published state with another size, ETag or modification time."""
    gone: int
    """Images of the published state that are no longer listed."""
    work: int
    """Images that featurize has to compute: new and changed ones, or all."""
    work_bytes: int
    """Total size of these images."""


class Changes(ChangeCounts):
    """``changes.json``: what featurize has to do."""

    folder: str
    """URI of the folder of images."""
    fingerprint: Fingerprint
    everything: str | None
    """Why all images are computed, or None if only those that have changed are."""
    segments: list[Segment]
    """The segments of the published state that may be kept, in order; none if all images are computed."""
    first_version: str | None
    """URI of the folder of a run of the lake's first version, whose features become segments; None otherwise."""
    published: str | None
    """URI of the folder of the run whose state is published; None without one, or if it is of the first version."""
    left_out: list[LeftOut]
    """The files that are not images because of their names; then those that ``make run`` did not load."""


class DenylistRecord(TypedDict):
    """``erasures/denylist.json``: the photos that may not come back (:mod:`spark_jobs.images.denylist`)."""

    key: str
    """Key of all keyed hashes in the lake, in hexadecimal digits."""
    contents: list[str]
    """Keyed hashes of the bytes of erased photos, sorted."""


class LiveSegments(TypedDict):
    """``segments.json``: the segments of a run's state, in the order in which their moments are merged."""

    folder: str
    """URI of the folder of all segments."""
    segments: list[Segment]
    sources: NotRequired[dict[str, list[str]]]
    """Ids of the published segments whose rows a segment has, in their order, by its id."""


class FeaturizeSummary(TypedDict):
    """``featurize.json``. If the file exists, the segments of the run are complete."""

    job: str
    code: str
    """Digest of the sources that ran (:func:`spark_jobs.sources.sources_digest`)."""
    fingerprint: Fingerprint
    """Of the features, with the versions of the libraries that the nodes have."""
    listed: int
    """Files that match the pattern: the sum of ``features`` and ``rejects``."""
    featurized: int
    """Files that this run has read: those that are new or changed, or all."""
    rewritten: int
    """Segments of the published state that were replaced: rows were removed, or small segments were merged."""
    segments: int
    """Segments of the run's state."""
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

    basis: NotRequired[str]
    """Which components these are: kept since which run, or fitted in this one, and why."""

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


class Axis(TypedDict):
    """The new component that is most like an old one."""

    new: int
    """Its number; the first one is 1."""
    cosine: float
    """Cosine of the angle between the two; negative if the new one points the other way."""
    inside: float
    """Share of the old component, from 0 to 1, that lies in the space of all new ones."""


class BasisInUse(TypedDict):
    """The basis of a state: the components on which its scores are projections."""

    digest: str | None
    """SHA-256 of its file ``pca/model.npz``; None if a version of the jobs without kept bases fitted it."""
    since: str
    """Name of the run that fitted it."""


class Basis(BasisInUse):
    """The basis that a run has used, and why."""

    kept: bool
    """Whether it was published before; the run has fitted it otherwise."""
    why_fitted: str | None
    """Why it was fitted although ``basis`` is ``keep``; None if it was kept, or if ``basis`` is ``refit``."""
    copied: int
    """Images whose scores were copied from the published ones; all others were projected."""
    before: BasisInUse | None
    """The published basis before the run; None without one whose features can be compared."""
    drift: Drift | None
    """How the features have changed since the published basis was fitted; None unless ``basis`` is ``keep``."""
    axes: list[Axis]
    """The map from the components of ``before`` to the new ones, in their order; empty if the basis was kept."""


class Progress(TypedDict):
    """``progress/<job>.json``: how far a job is."""

    job: str
    stage: str
    """The pass over the images."""
    done: int
    total: int
    unit: str
    """In the plural."""
    rejects: int | None
    """So far; None if the job rejects nothing."""
    started_at: str
    """ISO 8601 time at which the stage began."""
    updated_at: str


class ShownPhoto(TypedDict):
    """A photo that the report shows."""

    path: str
    label: str
    """Empty for a reject."""
    thumbnail: str | None
    """WebP in base64; None if the photo could not be read or decoded."""


class ReferenceSize(TypedDict):
    """The balanced sample that every photo was compared with."""

    photos: int
    labels: int


class PhotoMap(TypedDict):
    """The photos on the map, a random sample, and their centred scores."""

    photos: list[int]
    scores: list[list[float]]
    """One list per component, with one score per photo."""


class UnlikePhoto(TypedDict):
    """A photo whose nearest neighbours carry another label."""

    photo: int
    looks_like: str
    votes: int
    """How many of the five nearest neighbours carry that label."""
    nearest: int
    """The nearest of them."""


class Unlike(TypedDict):
    """The photos that look unlike their label."""

    count: int
    judged: int
    """Photos whose label could be judged: the reference has at least five others with it."""
    rows: list[UnlikePhoto]
    """The clearest ones."""


class OutlierPhoto(TypedDict):
    """A photo far from all others."""

    photo: int
    times_usual: float | None
    """Distance to its fifth neighbour, as a multiple of the median; None if most photos are alike."""


class Outliers(TypedDict):
    """The photos that are farthest from their neighbours."""

    count: int
    """Photos whose distance exceeds the third quartile by more than three interquartile ranges."""
    rows: list[OutlierPhoto]


class DuplicateGroup(TypedDict):
    """Photos that are equal or nearly equal."""

    kind: str
    """``identical_bytes``, ``equal_features`` or ``near_features``."""
    size: int
    photos: list[int]
    """The first of them."""
    labels: list[str]
    distance: float
    """Largest distance of a member to its nearest, in standard deviations of the features."""


class Duplicates(TypedDict):
    """Groups of equal or nearly equal photos."""

    groups: list[DuplicateGroup]
    count: int
    """Number of all groups that were found."""
    photos: int
    """Number of photos in them."""
    complete: bool
    """Whether all photos were searched; otherwise a random share of the groups was."""


class NeighboursOfPhoto(TypedDict):
    """A photo and the photos nearest to it, out of all."""

    photo: int
    nearest: list[int]
    distances: list[float]
    """In standard deviations of the features."""


class Insights(TypedDict):
    """``insights.json``: what the report shows of the photos. Photos are named by their number in ``photos``."""

    images: int
    seed: int
    reference: ReferenceSize
    photos: list[ShownPhoto]
    """Every photo that the report embeds, once."""
    thumbnail_side: int
    """Width and height of the thumbnails in pixels."""
    map: PhotoMap
    ends: list[list[int]]
    """The photos at the lower and at the upper end of the first components: two lists per component."""
    unlike: Unlike
    outliers: Outliers
    duplicates: Duplicates
    neighbours: list[NeighboursOfPhoto]
    variance_curve: list[float]
    """Cumulative share of the variance of 1, 2, … axes, kept or not."""
    rejects: list[int]
    """The rejects that the report names."""


class CsvFile(TypedDict):
    """The CSV of the scores. Its texts were compared with the scores, value by value."""

    rows: int
    """Without the header."""
    columns: int
    bytes: int


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
    csv: CsvFile
    moments: MomentsOrigin
    quality: Quality | None
    """None if no sample was requested."""
    basis: NotRequired[Basis]
    """Missing in summaries of versions of the jobs that fitted in every run."""
    drift: Drift
    warnings: list[str]
    seconds: Seconds
    arguments: Arguments
