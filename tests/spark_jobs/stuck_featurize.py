"""The featurize job, one of whose attempts gets stuck: a program for ``spark-submit``.

``STUCK_FILE`` names a file that does not exist. The attempt that creates it at the image ``stuck`` waits until the
file is deleted; any other attempt of that task goes on.
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

STUCK_AT = 0
"""Value of all pixels of the image at which an attempt gets stuck."""


def main() -> int:
    args = FeaturizeArgs.from_argv()
    stuck = Path(os.environ["STUCK_FILE"])

    def load_model(_digest: str, _flatbuffer: bytes) -> mobilenet.Extract:
        def extract(pixels: mobilenet.Pixels) -> mobilenet.Features:
            if (pixels == STUCK_AT).all() and not stuck.exists():
                stuck.touch(exist_ok=False)
                while stuck.exists():
                    time.sleep(0.1)
            return np.full(FEATURE_DIMENSIONS, pixels.mean(), np.float32)

        return extract

    def work() -> None:
        spark = context.start("stuck")
        job.run(spark, args, engine=Engine(load_model))
        spark.stop()

    return launcher.run(work)


if __name__ == "__main__":
    raise SystemExit(main())
