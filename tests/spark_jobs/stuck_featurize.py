"""The featurize job, one of whose attempts gets stuck: a program for ``spark-submit``.

``STUCK_FILE`` names a file that does not exist. The attempt that creates it at the image ``stuck`` waits until the
file is deleted; any other attempt of that task goes on.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from spark_jobs.model import mobilenet
from tests.spark_jobs import featurize_program

STUCK_AT = 0
"""Value of all pixels of the image at which an attempt gets stuck."""


def main() -> int:
    stuck = Path(os.environ["STUCK_FILE"])

    def wait(pixels: mobilenet.Pixels) -> None:
        if (pixels == STUCK_AT).all() and not stuck.exists():
            stuck.touch(exist_ok=False)
            while stuck.exists():
                time.sleep(0.1)

    return featurize_program.run("stuck", wait)


if __name__ == "__main__":
    raise SystemExit(main())
