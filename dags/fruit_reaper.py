"""
### Ends clusters that nobody needs

The last of four layers. A cluster is ended by its run's `terminate_cluster`; when that fails, by EMR after its idle
time-out; a step that hangs, by its own time limit; and what all of these have missed, here, every quarter of an hour.

A cluster is ended when it is live, has the name and the tags of `fruit_features` **and of this lake**, is older than
`FRUITS_REAPER_GRACE_MINUTES`, and its run is neither queued nor running; or when it is older than any run may be.
Clusters of other projects, and of other deployments in the same account, are left alone.

| task | what it does |
| --- | --- |
| `reap_clusters` | looks at all live clusters, ends those that nobody needs, and fails when there were any |

**When it is red**, a cluster had leaked, and is ended by now: the message names it and its run. Find out in the log
of that run's `terminate_cluster` why it was left. When it is red for another reason (no permission, EMR does not
answer), a leaked cluster would live on until its idle time-out.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from include import tasks
from include.settings.deployment import read_settings
from include.settings.notifiers import failure_notifier

settings = read_settings()

with DAG(
    dag_id="fruit_reaper",
    doc_md=__doc__,
    description="Ends EMR clusters of fruit_features that no live run needs",
    schedule=settings.reaper_schedule,
    start_date=settings.schedule_start,
    catchup=False,
    max_active_runs=1,
    tags=["fruits", "emr"],
    default_args={
        "owner": settings.owner,
        "retries": settings.retries,
        "retry_delay": timedelta(seconds=settings.retry_delay_seconds),
    },
    on_failure_callback=failure_notifier(settings),
) as dag:
    task(tasks.reap_clusters)()
