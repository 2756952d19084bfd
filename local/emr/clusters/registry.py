"""All clusters of an endpoint, those of its folder's earlier endpoints included."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

from local.emr.clusters import records, validation
from local.emr.clusters.cluster import ENDED_STATES, Cluster
from local.emr.clusters.errors import ValidationError, unknown_cluster
from local.emr.clusters.journal import Journal, JournalError
from local.emr.faults.faults import Faults
from local.emr.options import Options

logger = logging.getLogger(__name__)

STATE_NOT_KEPT = 3
"""Exit code of an endpoint that cannot write its state."""


class Registry:
    """Every cluster of the endpoint, by region.

    Parameters
    ----------
    options : Options
        The endpoint's settings.
    faults : Faults
        What is to go wrong.
    journal : Journal
        Where the clusters are kept; those that are in it are there again, and go on with :meth:`resume`.

    Raises
    ------
    JournalError
        When what the journal says of a cluster is not complete.
    """

    def __init__(self, options: Options, faults: Faults, journal: Journal) -> None:
        self.options = options
        self.faults = faults
        self._journal = journal
        self._lock = threading.Lock()
        self._closed = False
        self._kept: dict[str, dict[str, Any]] = {}
        for record in journal.records:
            cluster_id = str(record.get("cluster"))
            change = {name: value for name, value in record.items() if name != "cluster"}
            self._kept[cluster_id] = records.merge(self._kept.get(cluster_id, {}), change)
        self._clusters = {cluster_id: self._restore(cluster_id) for cluster_id in self._kept}

    def resume(self) -> None:
        """Let the clusters of earlier endpoints go on."""
        for cluster in self._clusters.values():
            cluster.start()

    def run(self, request: Mapping[str, Any], *, region: str, account: str) -> Cluster:
        """Start a cluster.

        Raises
        ------
        ValidationError
            When EMR would reject the request, or when the endpoint is stopping.
        """
        validation.check_run_job_flow(request, region)
        cluster = Cluster(
            request, region=region, account=account, options=self.options, faults=self.faults, keep=self._keep
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
            When there is none of that id.
        """
        cluster = self._clusters.get(str(cluster_id))
        if cluster is None or cluster.region != region:
            raise unknown_cluster(cluster_id)
        return cluster

    def all(self, region: str, keep: Callable[[Cluster], bool] = lambda cluster: True) -> list[Cluster]:
        """Return a region's clusters, the newest first."""
        with self._lock:
            clusters = [cluster for cluster in self._clusters.values() if cluster.region == region and keep(cluster)]
        return clusters[::-1]

    def close(self) -> None:
        """Take no more clusters, and end all processes: clusters whose step runs end, the others are left."""
        with self._lock:
            self._closed = True
            clusters = list(self._clusters.values())
        for cluster in clusters:
            cluster.leave()
        for cluster in clusters:
            cluster.join()

    def _restore(self, cluster_id: str) -> Cluster:
        record = self._kept[cluster_id]
        try:
            cluster = Cluster(
                record["request"],
                region=record["region"],
                account=record["account"],
                options=self.options,
                faults=self.faults,
                keep=self._keep,
                cluster_id=cluster_id,
                record=record,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(
                f"{self._journal.path}: the records of cluster {cluster_id} are not complete ({error!r}). Nothing was "
                "changed. Put back a copy of the file, or move it away to start without its clusters"
            ) from error
        if cluster.state not in ENDED_STATES:
            logger.info("%s %r was %s when the last endpoint ended", cluster.id, cluster.name, cluster.state)
        return cluster

    def _keep(self, cluster: Cluster) -> None:
        description = records.describe_cluster(cluster)
        change = records.difference(self._kept.get(cluster.id, {}), description)
        if not change:
            return
        try:
            self._journal.append({"cluster": cluster.id, **change})
        except JournalError as error:
            # What is not on the disk must not be told, nor run: all ends here, and the steps' guards end them.
            logger.critical("the endpoint ends: %s", error)
            logging.shutdown()
            os._exit(STATE_NOT_KEPT)
        self._kept[cluster.id] = description
