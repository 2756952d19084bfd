"""How a job runs: Spark context, tasks in workers, progress, summary."""
