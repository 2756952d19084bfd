"""Which clusters nobody needs any more: the last layer, when a teardown and EMR's idle time-out have not ended them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from include.cluster.request import cluster_name
from include.cluster.tags import LAKE_TAG, PROJECT, PROJECT_TAG, RUN_ID_TAG, RUN_TAG, decode_run_id, encode_tag
from include.emr.client import LIVE_CLUSTER_STATES, Emr, is_live, tags_of
from include.settings.parameters import MAX_STEP_MINUTES

log = logging.getLogger(__name__)

LONGEST_RUN = timedelta(minutes=2 * MAX_STEP_MINUTES, hours=2)
"""Two steps at their longest, and time to start: no run needs a cluster that is older."""


@dataclass(frozen=True)
class Reaper:
    """What tells a cluster that is needed from one that is not.

    Parameters
    ----------
    lake : str
        Root of the lake; clusters that work on another belong to another deployment.
    now : datetime
        The time.
    grace : timedelta
        Younger clusters are left alone.
    is_live_run : callable
        Whether the DAG has a run of this id that is queued or running.
    """

    lake: str
    now: datetime
    grace: timedelta
    is_live_run: Callable[[str], bool]

    def judge(self, cluster: dict[str, Any]) -> str | None:
        """Return why a cluster has to be ended; None when it is to live, or is not ours.

        Parameters
        ----------
        cluster : dict
            ``Cluster`` of EMR's DescribeCluster.
        """
        if not is_live(cluster) or not self._is_ours(cluster):
            return None
        age = self.now - cluster["Status"]["Timeline"]["CreationDateTime"]
        if age < self.grace:
            return None
        if age > LONGEST_RUN:
            return f"it is {age} old, and no run needs one for more than {LONGEST_RUN}"
        run_id = decode_run_id(tags_of(cluster).get(RUN_ID_TAG, ""))
        if run_id and not self.is_live_run(run_id):
            return f"its run {run_id} is not live"
        return None

    def _is_ours(self, cluster: dict[str, Any]) -> bool:
        tags = tags_of(cluster)
        return (
            tags.get(PROJECT_TAG) == PROJECT
            and tags.get(LAKE_TAG) == encode_tag(self.lake)
            and cluster["Name"] == cluster_name(tags.get(RUN_TAG, ""))
        )


def reap(emr: Emr, reaper: Reaper) -> dict[str, str]:
    """End the clusters that nobody needs.

    Returns
    -------
    dict
        Id of each cluster that was ended, and why.

    Raises
    ------
    botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError
        If EMR refuses the request, or the retry timeout has passed.
    """
    listed = emr.all("list_clusters", "Clusters", ClusterStates=list(LIVE_CLUSTER_STATES))
    ids = [cluster["Id"] for cluster in listed if cluster["Name"].startswith(cluster_name(""))]
    named = [cluster for cluster_id in ids if (cluster := _describe(emr, cluster_id)) is not None]
    reasons = {cluster["Id"]: reason for cluster in named if (reason := reaper.judge(cluster))}
    for cluster_id, reason in reasons.items():
        log.warning("Ending %s: %s", cluster_id, reason)
        emr.terminate([cluster_id])
    log.info("%d live clusters, %d of this project, %d ended", len(listed), len(named), len(reasons))
    return reasons


def _describe(emr: Emr, cluster_id: str) -> dict[str, Any] | None:
    """Describe a cluster; None when that is not allowed: Airflow's role may look at clusters with our tag only."""
    try:
        return emr.describe(cluster_id)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"AccessDenied", "AccessDeniedException"}:
            raise
        log.warning("%s has a name like ours, and may not be looked at: %s", cluster_id, error)
        return None
