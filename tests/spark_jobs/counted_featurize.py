"""The featurize job with a model that writes down each image it is given: a program for ``spark-submit``.

``COUNTED_FILE`` names the file, of one line a call. A call takes 20 ms, so that there is time to break something.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from spark_jobs.model import mobilenet
from tests.spark_jobs import featurize_program


def main() -> int:
    counted = Path(os.environ["COUNTED_FILE"])

    def count(_pixels: mobilenet.Pixels) -> None:
        time.sleep(0.02)
        with counted.open("a") as file:
            file.write(f"{os.getpid()}\n")

    return featurize_program.run("counted", count)


if __name__ == "__main__":
    raise SystemExit(main())
