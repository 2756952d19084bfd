"""The featurize job with a model that writes down each image it is given: a program for ``spark-submit``.

``COUNTED_FILE`` names the file, of one line a call. A call takes 20 ms, so that there is time to break something.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from spark_jobs.args import FEATURE_DIMENSIONS, FeaturizeArgs
from spark_jobs.featurize import job
from spark_jobs.featurize.extraction import Engine
from spark_jobs.model import mobilenet
from spark_jobs.runtime import context, launcher


def main() -> int:
    args = FeaturizeArgs.from_argv()
    counted = Path(os.environ["COUNTED_FILE"])

    def load_model(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
        def extract(pixels: mobilenet.Pixels) -> mobilenet.Features:
            time.sleep(0.02)
            with counted.open("a") as file:
                file.write(f"{os.getpid()}\n")
            return np.full(FEATURE_DIMENSIONS, pixels.mean(), np.float32)

        return extract

    def work() -> None:
        spark = context.start("counted")
        job.run(spark, args, engine=Engine(load_model))
        spark.stop()

    return launcher.run(work)


if __name__ == "__main__":
    raise SystemExit(main())
