"""The reaper: find and terminate orphaned clusters that neither the teardown nor EMR's idle time-out terminated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from botocore.exceptions import BotoCoreError, ClientError

from include.cluster.request import cluster_name
from include.cluster.tags import LAKE_TAG, PROJECT, PROJECT_TAG, RUN_ID_TAG, RUN_TAG, decode_tag, encode_tag
from include.emr.client import Emr
from include.emr.identity import LIVE_CLUSTER_STATES, Cluster, cluster_tags, is_live
from include.settings.parameters import MAX_STEP_MINUTES

log = logging.getLogger(__name__)

LONGEST_RUN = timedelta(minutes=2 * MAX_STEP_MINUTES, hours=2)
"""Two steps of the longest duration, and two hours to start: no run needs a cluster for longer."""


@dataclass(frozen=True)
class Reaper:
    """The rules that decide whether a cluster is orphaned.

    Parameters
    ----------
    lake : str
        Root of the lake; clusters that use another lake belong to another deployment.
    now : datetime
        The current time.
    grace : timedelta
        Younger clusters are kept.
    is_live_run : callable
        Whether the DAG has a queued or running run with this id.
    """

    lake: str
    now: datetime
    grace: timedelta
    is_live_run: Callable[[str], bool]

    def reason_to_terminate(self, cluster: Cluster) -> str | None:
        """Return why a described cluster must be terminated; None if it must be kept, or is not ours."""
        if not is_live(cluster) or not self._is_ours(cluster):
            return None
        age = self.now - cluster["Status"]["Timeline"]["CreationDateTime"]
        if age < self.grace:
            return None
        if age > LONGEST_RUN:
            return f"it is {age} old, and no run needs a cluster for more than {LONGEST_RUN}"
        run_id = decode_tag(cluster_tags(cluster).get(RUN_ID_TAG, ""))
        if run_id and not self.is_live_run(run_id):
            return f"its run {run_id} is not live"
        return None

    def _is_ours(self, cluster: Cluster) -> bool:
        tags = cluster_tags(cluster)
        return (
            tags.get(PROJECT_TAG) == PROJECT
            and tags.get(LAKE_TAG) == encode_tag(self.lake)
            and cluster["Name"] == cluster_name(tags.get(RUN_TAG, ""))
        )


@dataclass(frozen=True)
class Reaped:
    """What a reaper has done.

    Attributes
    ----------
    terminated : dict
        Id of each terminated cluster, and the reason.
    failures : dict
        Id of each cluster that could not be described or terminated, and the error.
    """

    terminated: dict[str, str]
    failures: dict[str, str]


def reap(emr: Emr, reaper: Reaper) -> Reaped:
    """Terminate the orphaned clusters. A cluster that EMR refuses to terminate does not protect the others.

    Raises
    ------
    botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError
        If the clusters cannot be listed.
    """
    listed = emr.list_all("list_clusters", "Clusters", ClusterStates=list(LIVE_CLUSTER_STATES))
    ids = [cluster["Id"] for cluster in listed if cluster["Name"].startswith(cluster_name(""))]
    reaped = Reaped({}, {})
    for cluster_id in ids:
        try:
            cluster = _describe(emr, cluster_id)
            reason = reaper.reason_to_terminate(cluster) if cluster is not None else None
            if reason is None:
                continue
            log.warning("Terminating %s: %s", cluster_id, reason)
            emr.terminate(cluster_id)
        except (ClientError, BotoCoreError) as error:
            log.error("%s: %s", cluster_id, error)
            reaped.failures[cluster_id] = str(error)
        else:
            reaped.terminated[cluster_id] = reason
    log.info("%d live clusters, %d with a name like ours, %d terminated", len(listed), len(ids), len(reaped.terminated))
    return reaped


def _describe(emr: Emr, cluster_id: str) -> Cluster | None:
    """Describe a cluster; None if that is denied: Airflow's role may describe only clusters that have our tag."""
    try:
        return emr.describe(cluster_id)
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"AccessDenied", "AccessDeniedException"}:
            raise
        log.warning("%s has a name like ours, but access to it is denied: %s", cluster_id, error)
        return None
