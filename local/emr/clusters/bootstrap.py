"""The logs of a bootstrap action that a fault lets fail."""

from __future__ import annotations

from local.emr.clusters.cluster_state import ClusterState
from local.emr.faults.faults import Faults
from local.emr.faults.scenario import ClusterFault
from local.emr.options import Options
from local.emr.spark.logs import LOG_NAMES, LogDelivery, log_folder


def deliver_logs(
    cluster: ClusterState, fault: ClusterFault, instance_id: str, options: Options, faults: Faults
) -> None:
    """Write the output of the failed bootstrap action, and deliver it to the cluster's LogUri.

    Parameters
    ----------
    cluster : ClusterState
        The cluster.
    fault : ClusterFault
        The fault; it has the output and the exit code of the action.
    instance_id : str
        EC2 id of the primary node, where the action ran.
    options : Options
        The endpoint's settings.
    faults : Faults
        The faults to inject; they may delay or refuse the logs.
    """
    folder = options.state_dir / "clusters" / cluster.id / "bootstrap"
    folder.mkdir(parents=True, exist_ok=True)
    controller = f"INFO waitProcessCompletion ended with exit code {fault.exit_code}\n"
    for name, text in zip(LOG_NAMES, (fault.stdout, fault.stderr, controller), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    if cluster.log_uri:
        destination = log_folder(cluster.log_uri, cluster.id, "node", instance_id, "bootstrap-actions", "1")
        files = {name: folder / name for name in LOG_NAMES}
        LogDelivery(cluster.name, options, faults).deliver(files, destination)
