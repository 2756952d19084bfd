"""The two passes of a PCA over a run's features: one for the moments that are not stored, one for the scores.

The workers read the Parquet files themselves; each task reads one part of the features.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from spark_jobs.args import SCORES_FOLDER, PcaArgs
from spark_jobs.insights import collection
from spark_jobs.lake import parts, schemas, storage
from spark_jobs.lake.features import Features
from spark_jobs.lake.parts import Piece
from spark_jobs.numerics import decomposition, moments, stored_moments
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.pca import blocks, kept_scores, scores
from spark_jobs.pca.basis import Choice, choose
from spark_jobs.quality import sampling
from spark_jobs.runtime import progress, summary, workers

if TYPE_CHECKING:
    from pyspark import SparkContext

logger = logging.getLogger(__name__)

NO_FILES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class CollectedMoments:
    """The moments of all features, and their origin.

    Attributes
    ----------
    total : Moments
    digests : dict of str to tuple of str
        The files whose stored moments were used: name, and the expected digest of the vectors of each row group.
    computed : dict of str to str
        The other files: name, and the reason why their moments were computed from the vectors.
    """

    total: moments.Moments
    digests: dict[str, tuple[str, ...]]
    computed: dict[str, str]


@dataclass(frozen=True)
class Analysis:
    """A fit and the scores that were written with it.

    Attributes
    ----------
    collected : CollectedMoments
        The moments that the PCA was fitted on.
    fresh : FittedPca
        Fitted on these moments.
    basis : Choice
        What the scores are projections on: ``fresh``, or the published basis.
    insights : Rule
        What the workers collected for the report.
    projected : list of ProjectedPart
        What the workers report about each file of scores, in order.
    """

    collected: CollectedMoments
    fresh: FittedPca
    basis: Choice
    insights: collection.Rule
    projected: list[scores.ProjectedPart]


def run(sc: SparkContext, features: Features, arguments: PcaArgs, stopwatch: summary.Stopwatch) -> Analysis:
    """Fit the PCA and write the scores.

    The fit uses stored moments if their counts and digests match. The pass for the scores reads all vectors and
    computes their digests. If a digest differs, the job computes the moments of that file from its vectors, and repeats
    the fit and the scores.

    Parameters
    ----------
    sc : SparkContext
    features : Features
    arguments : PcaArgs
    stopwatch : Stopwatch
        Measures the stages ``moments``, ``fit`` and ``scores``.

    Raises
    ------
    JobError
        If a vector is invalid; the message names the image.
    ArithmeticError
        If the fit violates a property of every PCA; the message gives the figures.
    """
    rule = _sample_rule(features, arguments)
    rejected: dict[str, str] = {}
    while True:
        with stopwatch.stage("moments"):
            collected = collect_moments(sc, features, rejected)
        with stopwatch.stage("fit"):
            fresh = decomposition.fit(
                collected.total, arguments.variance_target, arguments.n_components, arguments.scores
            )
            basis = choose(arguments, fresh, collected.total.covariance)
        insights = collection.make_rule(basis.model, features.images, arguments.seed)
        with stopwatch.stage("scores"):
            projected = project(sc, features, basis, rule, insights, with_digests=bool(collected.digests))
        changed = _changed_files(features, collected, projected)
        if not changed:
            return Analysis(collected, fresh, basis, insights, projected)
        rejected |= dict.fromkeys(changed, "its vectors differ from those that its stored moments were computed from")


def collect_moments(sc: SparkContext, features: Features, rejected: Mapping[str, str] = NO_FILES) -> CollectedMoments:
    """Return the moments of all features: stored ones where they match, else computed ones.

    Parameters
    ----------
    sc : SparkContext
    features : Features
    rejected : mapping of str to str
        Names of files whose stored moments must not be used, each with the reason.

    Raises
    ------
    JobError
        If a vector is invalid; the message names the image.
    """
    total = moments.empty(features.dimensions)
    digests: dict[str, tuple[str, ...]] = {}
    computed = dict(rejected)
    for file in features.files:
        if file.name in computed or not sum(file.rows):
            continue
        try:
            stored = stored_moments.read(features.folder, file, features.dimensions)
        except stored_moments.MismatchError as error:
            computed[file.name] = str(error)
        else:
            total = moments.merge(total, stored.moments)
            digests[file.name] = stored.digests
    for name, reason in computed.items():
        logger.info("computing the moments of %s: %s", name, reason)
    return CollectedMoments(moments.merge(total, _compute(sc, features, computed)), digests, computed)


def _compute(sc: SparkContext, features: Features, names: Mapping[str, str]) -> moments.Moments:
    """Return the moments of some files: workers compute those of each part, the driver merges them in order."""
    shares = parts.split(parts.pieces(file for file in features.files if file.name in names))

    def work(part: Sequence[Piece]) -> bytes:
        vectors = (block.vectors for block in blocks.read(features.folder, part, features.dimensions))
        return moments.pack(moments.accumulate(blocks.refill(vectors), features.dimensions))

    total = moments.empty(features.dimensions)
    if shares:
        with _track(sc, "pca-moments", shares):
            for packed in workers.run(sc, shares, work):
                total = moments.merge(total, moments.unpack(packed, features.dimensions))
    return total


def project(
    sc: SparkContext,
    features: Features,
    basis: Choice,
    rule: scores.SampleRule | None = None,
    insights: collection.Rule | None = None,
    *,
    with_digests: bool = True,
) -> list[scores.ProjectedPart]:
    """Write the scores of all features in parallel, one file per part.

    Parameters
    ----------
    sc : SparkContext
    features : Features
    basis : Choice
        If it is the published basis, published scores of unchanged images are copied.
    rule : SampleRule, optional
        Selects the images that the workers send to the driver; none by default.
    insights : Rule, optional
        Says what the workers collect for the report; nothing by default.
    with_digests : bool
        Whether the workers compute digests of the vectors; needed if stored moments were used.

    Returns
    -------
    list of ProjectedPart
        What the workers report about each file, in order. Its size is bounded, whatever the number of images.
    """
    folder, digest = storage.join(features.run, SCORES_FOLDER), basis.in_use["digest"]
    shares = list(enumerate(parts.split(parts.pieces(features.files))))
    kept = None
    if basis.kept and basis.published is not None:
        kept = kept_scores.find(features.run, basis.published.run, digest, basis.model.k)
    shared = sc.broadcast((basis.model, kept))

    def work(share: tuple[int, list[Piece]]) -> scores.ProjectedPart:
        number, part = share
        destination = storage.join(folder, schemas.FILE_NAME.format(number))
        model, published = shared.value
        return scores.write(
            features.folder,
            part,
            model,
            destination,
            rule,
            insights,
            with_digests=with_digests,
            basis=digest,
            kept=published,
        )

    with _track(sc, "pca-scores", [part for _, part in shares]):
        return workers.run(sc, shares, work)


def _sample_rule(features: Features, arguments: PcaArgs) -> scores.SampleRule | None:
    if arguments.sample_images == 0:
        return None
    return scores.SampleRule(arguments.seed, sampling.limit(features.images, arguments.sample_images))


def _changed_files(
    features: Features, collected: CollectedMoments, projected: Sequence[scores.ProjectedPart]
) -> list[str]:
    """Return the names of the files whose vectors do not match the digests of their stored moments."""
    actual = {piece: digest for part in projected for piece, digest in part.digests.items()}
    return [
        file.name
        for file in features.files
        if file.name in collected.digests
        and any(actual[piece] != collected.digests[file.name][piece.row_group] for piece in parts.pieces([file]))
    ]


def _track(sc: SparkContext, name: str, shares: Sequence[Sequence[Piece]]) -> AbstractContextManager[None]:
    """Log the progress of a pass: one task per part, and parts are of similar size."""
    images = sum(piece.rows for part in shares for piece in part)
    return progress.track(sc, name, total=images, unit="images", per_task=-(-images // len(shares)))
