"""The two passes of a PCA over a run's features: their moments, unless featurize has left them, and their scores.

The workers read the Parquet files themselves, a part of the features each.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType

from pyspark import SparkContext

from spark_jobs.args import MOMENTS_FOLDER, SCORES_FOLDER, PcaArgs
from spark_jobs.lake import parts, schemas, storage
from spark_jobs.lake.features import Features
from spark_jobs.lake.parts import Piece
from spark_jobs.numerics import decomposition, moments, stored_moments
from spark_jobs.numerics.fitted_pca import FittedPca
from spark_jobs.pca import blocks, scores
from spark_jobs.quality import sampling
from spark_jobs.runtime import progress, summary, workers

logger = logging.getLogger(__name__)

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Gathered:
    """The moments of all features, and where they come from.

    Attributes
    ----------
    total : Moments
    digests : dict of str to tuple of str
        Of every file whose stored moments were taken, by name, what the digests of its row groups' vectors must be.
    computed : dict of str to str
        The other files, by name, each with the reason why its moments were made anew.
    """

    total: moments.Moments
    digests: dict[str, tuple[str, ...]]
    computed: dict[str, str]


@dataclass(frozen=True)
class Analysis:
    """A fit, and the scores that were written with it.

    Attributes
    ----------
    gathered : Gathered
        What it was fitted on.
    fitted : FittedPca
    projected : list of Projected
        What the workers tell of every file of scores, in order.
    """

    gathered: Gathered
    fitted: FittedPca
    projected: list[scores.Projected]


def run(spark: SparkContext, features: Features, arguments: PcaArgs, watch: summary.Stopwatch) -> Analysis:
    """Fit, and write the scores.

    Stored moments are believed by their counts and digests. When the pass for the scores, which reads all vectors,
    finds others than the moments were made of, those moments are made anew and all that follows is done again.

    Parameters
    ----------
    spark : SparkContext
    features : Features
    arguments : PcaArgs
    watch : Stopwatch
        Gets the stages ``moments``, ``fit`` and ``scores``.

    Raises
    ------
    JobError
        When a vector cannot be used; the message names the image.
    ArithmeticError
        When the fit lacks a property that every PCA has; the message gives the figures.
    """
    sample_of = _sample_of(features, arguments)
    distrusted: dict[str, str] = {}
    while True:
        with watch.stage("moments"):
            gathered = gather(spark, features, distrusted)
        with watch.stage("fit"):
            fitted = decomposition.fit(
                gathered.total, arguments.variance_target, arguments.n_components, arguments.scores
            )
        with watch.stage("scores"):
            projected = project(spark, features, fitted, sample_of, with_digests=bool(gathered.digests))
        changed = _changed(features, gathered, projected)
        if not changed:
            return Analysis(gathered, fitted, projected)
        distrusted |= dict.fromkeys(changed, "its vectors are not those that its moments were made of")


def gather(spark: SparkContext, features: Features, distrusted: Mapping[str, str] = NOTHING) -> Gathered:
    """Return the moments of all features.

    Parameters
    ----------
    spark : SparkContext
    features : Features
    distrusted : mapping of str to str
        Names of files whose stored moments are not to be used, each with the reason.

    Raises
    ------
    JobError
        When a vector cannot be used; the message names the image.
    """
    folder = storage.join(features.run, MOMENTS_FOLDER)
    total = moments.empty(features.dimensions)
    digests: dict[str, tuple[str, ...]] = {}
    computed = dict(distrusted)
    for file in features.files:
        if file.name in computed or not sum(file.rows):
            continue
        try:
            stored = stored_moments.read(folder, file, features.dimensions)
        except stored_moments.MismatchError as error:
            computed[file.name] = str(error)
        else:
            total = moments.merge(total, stored.moments)
            digests[file.name] = stored.digests
    for name, reason in computed.items():
        logger.info("the moments of %s are made anew: %s", name, reason)
    return Gathered(moments.merge(total, _compute(spark, features, computed)), digests, computed)


def _compute(spark: SparkContext, features: Features, names: Mapping[str, str]) -> moments.Moments:
    """Return the moments of some files, by a pass over them: those of each part from a worker, merged in order."""
    shares = parts.split(parts.pieces(file for file in features.files if file.name in names))

    def work(part: Sequence[Piece]) -> bytes:
        vectors = (block.vectors for block in blocks.read(features.folder, part, features.dimensions))
        return moments.pack(moments.accumulate(blocks.refill(vectors), features.dimensions))

    total = moments.empty(features.dimensions)
    if shares:
        with _follow(spark, "pca-moments", shares):
            for packed in workers.run(spark, shares, work):
                total = moments.merge(total, moments.unpack(packed, features.dimensions))
    return total


def project(
    spark: SparkContext,
    features: Features,
    fitted: FittedPca,
    sample_of: scores.SampleOf | None = None,
    *,
    with_digests: bool = True,
) -> list[scores.Projected]:
    """Write the scores of all features in parallel, one file a part.

    Parameters
    ----------
    spark : SparkContext
    features : Features
    fitted : FittedPca
    sample_of : SampleOf, optional
        Which images the workers send to the driver; none by default.
    with_digests : bool
        Whether the workers digest the vectors, which is needed where stored moments were taken.

    Returns
    -------
    list of Projected
        What the workers tell of every file, in order: bounded, whatever the number of images.
    """
    folder = storage.join(features.run, SCORES_FOLDER)
    shares = list(enumerate(parts.split(parts.pieces(features.files))))
    model = spark.broadcast(fitted)

    def work(share: tuple[int, list[Piece]]) -> scores.Projected:
        number, part = share
        destination = storage.join(folder, schemas.FILE_NAME.format(number))
        return scores.write(features.folder, part, model.value, destination, sample_of, with_digests=with_digests)

    with _follow(spark, "pca-scores", [part for _, part in shares]):
        return workers.run(spark, shares, work)


def _sample_of(features: Features, arguments: PcaArgs) -> scores.SampleOf | None:
    if arguments.sample_images == 0:
        return None
    return scores.SampleOf(arguments.seed, sampling.limit(features.images, arguments.sample_images))


def _changed(features: Features, gathered: Gathered, projected: Sequence[scores.Projected]) -> list[str]:
    """Return the names of the files whose vectors are others than those that their stored moments were made of."""
    found = {piece: digest for part in projected for piece, digest in part.digests.items()}
    return [
        file.name
        for file in features.files
        if file.name in gathered.digests
        and any(found[piece] != gathered.digests[file.name][piece.row_group] for piece in parts.pieces([file]))
    ]


def _follow(spark: SparkContext, name: str, shares: Sequence[Sequence[Piece]]) -> AbstractContextManager[None]:
    """Log the progress of a pass: a task is a part, and parts are of similar size."""
    images = sum(piece.rows for part in shares for piece in part)
    return progress.watch(spark, name, total=images, unit="images", per_task=-(-images // len(shares)))
