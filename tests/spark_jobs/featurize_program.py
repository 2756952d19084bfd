"""The featurize job with a function of a test for a model: the body of programs for ``spark-submit``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spark_jobs.args import FEATURE_DIMENSIONS, FeaturizeArgs
from spark_jobs.featurize import job
from spark_jobs.featurize.extraction import Engine
from spark_jobs.model import mobilenet
from spark_jobs.runtime import context, launcher


def run(name: str, before_image: Callable[[mobilenet.Pixels], None]) -> int:
    """Run the job with this process's arguments; return its exit code.

    The workers call ``before_image`` with each image. All its features are then the mean of its pixels.
    """
    args = FeaturizeArgs.from_argv()

    def load_model(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
        def extract(pixels: mobilenet.Pixels) -> mobilenet.Features:
            before_image(pixels)
            return np.full(FEATURE_DIMENSIONS, pixels.mean(), np.float32)

        return extract

    def work() -> None:
        spark = context.start(name)
        job.run(spark, args, engine=Engine(load_model))
        spark.stop()

    return launcher.run(work)
