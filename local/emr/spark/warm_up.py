"""A small Spark job that trains the archive of Java classes: it calls Spark as the steps do.

``spark_home`` submits it with ``spark_jobs`` as ``--py-files``. It uses the runtime of the jobs, so the archive always
holds the classes that a step loads: those of the Spark context, broadcasts, tasks in Python workers and the status
tracker.
"""

from __future__ import annotations

from spark_jobs.runtime import context, progress, workers

MODEL_BYTES = 8 * 2**20
"""About the size of the model that featurize broadcasts."""


def main() -> None:
    """Run one Spark job of four tasks."""
    sc = context.start("warm up")
    model = sc.broadcast(bytes(MODEL_BYTES))
    workers.run(sc, range(4), lambda number: len(model.value) + number)
    progress.completed_tasks(sc)
    sc.stop()


if __name__ == "__main__":
    main()
