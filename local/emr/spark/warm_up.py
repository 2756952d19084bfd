"""A small Spark job that trains the archive of Java classes: it calls Spark as the steps do.

``spark_home`` submits it. The endpoint does not import the jobs, so these calls repeat those of
``spark_jobs/runtime/{context,workers,progress}.py``: change both together.
"""

from __future__ import annotations

MODEL_BYTES = 8 * 2**20
"""About the size of the model that featurize broadcasts."""


def main() -> None:
    """Run one Spark job of four tasks."""
    from pyspark import SparkConf, SparkContext

    sc = SparkContext.getOrCreate(SparkConf().setAppName("warm up").set("spark.executorEnv.OMP_NUM_THREADS", "1"))
    sc.setLogLevel("WARN")
    model = sc.broadcast(bytes(MODEL_BYTES))
    sc.parallelize(list(range(4)), 4).map(lambda number: len(model.value) + number).collect()
    tracker = sc.statusTracker()
    for job in tracker.getJobIdsForGroup():
        info = tracker.getJobInfo(job)
        for stage in info.stageIds if info else ():
            tracker.getStageInfo(stage)
    tracker.getActiveJobsIds()
    sc.stop()


if __name__ == "__main__":
    main()
