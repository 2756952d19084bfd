"""All clusters of an endpoint, including those of earlier endpoints in the same state directory."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from local.emr.clusters import records, validation
from local.emr.clusters.cluster import Cluster
from local.emr.clusters.cluster_state import ENDED_STATES, ClusterState
from local.emr.clusters.errors import ValidationError, unknown_cluster
from local.emr.clusters.journal import Journal, JournalError
from local.emr.faults.faults import Faults
from local.emr.options import Options

logger = logging.getLogger(__name__)

STATE_NOT_SAVED = 3
"""Exit code of an endpoint that cannot write its state."""


class Registry:
    """Every cluster of the endpoint, by region.

    Parameters
    ----------
    options : Options
        The endpoint's settings.
    faults : Faults
        The faults to inject.
    journal : Journal
        Where the clusters are saved. The clusters in it are restored, and continue with :meth:`resume`.

    Raises
    ------
    JournalError
        If the description of a cluster in the journal is not complete.
    """

    def __init__(self, options: Options, faults: Faults, journal: Journal) -> None:
        self.options = options
        self.faults = faults
        self._journal = journal
        self._lock = threading.Lock()
        self._closed = False
        self._saved = dict(journal.clusters)
        self._clusters = {
            cluster_id: self._restore(cluster_id, description) for cluster_id, description in journal.clusters.items()
        }

    def resume(self) -> None:
        """Continue the clusters of earlier endpoints."""
        for cluster in self._clusters.values():
            cluster.start()

    def run(self, request: Mapping[str, Any], *, region: str, account: str) -> Cluster:
        """Start a cluster.

        Raises
        ------
        ValidationError
            If EMR would reject the request, or if the endpoint is stopping.
        """
        validation.check_run_job_flow(request, region)
        cluster = Cluster(
            request, region=region, account=account, options=self.options, faults=self.faults, save=self._save
        )
        with self._lock:
            if self._closed:
                raise ValidationError("The endpoint is stopping.")
            self._clusters[cluster.id] = cluster
            cluster.start()
        logger.info("%s %r starts in %s", cluster.id, cluster.name, region)
        return cluster

    def get(self, cluster_id: object, region: str) -> Cluster:
        """Return a cluster of a region.

        Raises
        ------
        InvalidRequestError
            If the region has no cluster with that id.
        """
        cluster = self._clusters.get(str(cluster_id))
        if cluster is None or cluster.region != region:
            raise unknown_cluster(cluster_id)
        return cluster

    def all(self, region: str, matches: Callable[[Cluster], bool] = lambda cluster: True) -> list[Cluster]:
        """Return the clusters of a region that match, the newest first."""
        with self._lock:
            clusters = [cluster for cluster in self._clusters.values() if cluster.region == region and matches(cluster)]
        return clusters[::-1]

    def close(self) -> None:
        """Accept no more clusters; terminate those with a running step, and leave the others for the next endpoint."""
        with self._lock:
            self._closed = True
            clusters = list(self._clusters.values())
        for cluster in clusters:
            cluster.detach()
        for cluster in clusters:
            cluster.join()

    def _restore(self, cluster_id: str, description: Mapping[str, Any]) -> Cluster:
        try:
            cluster = Cluster(
                description["request"],
                region=description["region"],
                account=description["account"],
                options=self.options,
                faults=self.faults,
                save=self._save,
                cluster_id=cluster_id,
                description=description,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(
                f"{self._journal.path}: the description of cluster {cluster_id} is not complete ({error!r}). Nothing "
                "was changed. Restore a copy of the file, or move the file away to start without its clusters"
            ) from error
        if cluster.state not in ENDED_STATES:
            logger.info("%s %r was %s when the last endpoint stopped", cluster.id, cluster.name, cluster.state)
        return cluster

    def _save(self, cluster: ClusterState) -> None:
        description = records.describe_cluster(cluster)
        if description == self._saved.get(cluster.id):
            return
        try:
            self._journal.save(cluster.id, description)
        except JournalError as error:
            # A client must not see, and a step must not run in, a state that is not on the disk. So the process exits,
            # and the guards of the steps stop them.
            logger.critical("the endpoint exits: %s", error)
            logging.shutdown()
            os._exit(STATE_NOT_SAVED)
        self._saved[cluster.id] = description
