"""
### Terminates orphaned clusters

The last of four layers. The run's `terminate_cluster` terminates its cluster; if that fails, EMR does so after the idle
timeout; a time limit stops each step that hangs. This DAG runs every 15 minutes and terminates what the other layers
missed.

It terminates a live cluster if the cluster has the name and the tags of `fruit_features` **and of this lake**, is older
than `FRUITS_REAPER_GRACE_MINUTES`, and its run is neither queued nor running; or if it is older than any run can be.
It ignores clusters of other projects, and of other deployments in the same account.

| task | what it does |
| --- | --- |
| `reap_clusters` | checks all live clusters, terminates orphaned ones, and fails if there were any |

**When it fails**, it usually has found and terminated an orphaned cluster: the message names the cluster and its run.
The log of `terminate_cluster` of that run shows why the cluster was left. If it failed for another reason (no
permission, EMR does not answer), an orphaned cluster stays until its idle timeout.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

from include.settings.dag_arguments import common_arguments
from include.settings.dag_ids import REAPER_DAG
from include.settings.deployment import read_settings
from include.tasks import reaper

settings = read_settings()

with DAG(
    dag_id=REAPER_DAG,
    doc_md=__doc__,
    description="Terminates EMR clusters of fruit_features that no live run needs",
    schedule=settings.reaper_schedule,
    tags=["fruits", "emr"],
    **common_arguments(settings),
) as dag:
    task(reaper.reap_clusters)()
