"""Our side: the pca job from reading the features to writing the scores.

It omits the model's file, the CSV and the certificate of quality, which the other sides do not write; the comparison
measures the whole step separately. Variants: ``raw`` computes the moments from the features; ``stored`` reads the
moments that featurize has stored. The run has stored moments only for ``stored``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from benchmarks.pca.session import Arguments, Lap, Outcome, run
from spark_jobs.args import SCORES_FOLDER, PcaArgs


def check_moments(variant: str, *, stored: int, computed: Mapping[str, str]) -> None:
    """Check that a lap of ``stored`` used only stored moments, and a lap of ``raw`` none.

    Parameters
    ----------
    variant : str
        ``raw`` or ``stored``.
    stored : int
        Number of files whose stored moments were used.
    computed : mapping
        Files whose moments were computed, with the reasons.

    Raises
    ------
    SystemExit
        If the moments have another source.
    """
    if bool(stored) != (variant == "stored") or bool(computed) != (variant == "raw"):
        raise SystemExit(f"{variant}: used the stored moments of {stored} files and computed those of {dict(computed)}")


@contextmanager
def session(args: Arguments) -> Iterator[Lap]:
    """Start the job's SparkContext. Its settings come from the environment, as with ``spark-submit``."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the job's entry point does, before numpy is imported
    from spark_jobs.lake import features, storage
    from spark_jobs.pca import analysis
    from spark_jobs.runtime import context, summary

    arguments = PcaArgs(run=args.run.as_uri(), sample_images=0)
    sc = context.start("pca")

    def lap() -> Outcome:
        watch = summary.Stopwatch()
        done = analysis.run(sc, features.find(arguments.run), arguments, watch)
        check_moments(args.variant, stored=len(done.collected.digests), computed=done.collected.computed)
        ratio = done.basis.ratio.tolist()
        return Outcome(ratio, args.run / SCORES_FOLDER, watch.seconds())

    try:
        storage.delete(storage.join(arguments.run, SCORES_FOLDER))
        yield lap
    finally:
        sc.stop()


if __name__ == "__main__":
    sys.exit(run(__doc__, session))
