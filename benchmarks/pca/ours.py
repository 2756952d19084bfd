"""Ours: what the pca job does between finding the features and having written the scores.

The model's file, the CSV and the certificate of quality, which the others do not make, are left out; the whole step is
measured as the DAG runs it. Variants: ``raw`` makes the moments of the features, ``stored`` takes those that featurize
has left; the run has them, or not, accordingly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from benchmarks.pca.session import Arguments, Lap, Outcome, run
from spark_jobs.args import SCORES_FOLDER, PcaArgs


def check_moments(variant: str, *, stored: int, computed: Mapping[str, str]) -> None:
    """Refuse a lap of ``stored`` that has made moments anew, and one of ``raw`` that has not.

    Parameters
    ----------
    variant : str
        ``raw`` or ``stored``.
    stored : int
        Files whose stored moments were used.
    computed : mapping
        Files whose moments were made anew, with the reasons.

    Raises
    ------
    SystemExit
        When one of the two is not as it has to be.
    """
    if bool(stored) != (variant == "stored") or bool(computed) != (variant == "raw"):
        raise SystemExit(f"{variant}: the stored moments of {stored} files were used, made anew were {dict(computed)}")


@contextmanager
def session(args: Arguments) -> Iterator[Lap]:
    """Start the job's Spark context, which takes its settings from the environment, as with ``spark-submit``."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the job's entry point does, before numpy is imported
    from spark_jobs.lake import features, storage
    from spark_jobs.pca import analysis
    from spark_jobs.runtime import context, summary

    arguments = PcaArgs(run=args.run.as_uri(), sample_images=0)
    spark = context.start("pca")

    def lap() -> Outcome:
        watch = summary.Stopwatch()
        done = analysis.run(spark, features.find(arguments.run), arguments, watch)
        check_moments(args.variant, stored=len(done.collected.digests), computed=done.collected.computed)
        ratio = done.fitted.explained_variance_ratio[: done.fitted.k].tolist()
        return Outcome(ratio, args.run / SCORES_FOLDER, watch.seconds())

    try:
        storage.delete(storage.join(arguments.run, SCORES_FOLDER))
        yield lap
    finally:
        spark.stop()


if __name__ == "__main__":
    sys.exit(run(__doc__, session))
