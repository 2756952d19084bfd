"""Why clusters end: states and reasons as EMR tells them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from local.emr.faults.scenario import ClusterFault


@dataclass(frozen=True)
class Ending:
    """Why a cluster ends, and in which state.

    Parameters
    ----------
    state, code, message : str
        Its last state, and the reason for it.
    step_failure : str
        Why its running steps failed; empty where they count as cancelled.
    provisioned : bool
        Whether it ever had instances.
    """

    state: str
    code: str
    message: str
    step_failure: str = ""
    provisioned: bool = True


BY_USER = Ending("TERMINATED", "USER_REQUEST", "Terminated by user request")
STEPS_COMPLETED = Ending("TERMINATED", "ALL_STEPS_COMPLETED", "Steps completed")
STEPS_COMPLETED_WITH_ERRORS = Ending("TERMINATED", "ALL_STEPS_COMPLETED", "Steps completed with errors")
STEP_FAILED = Ending("TERMINATED_WITH_ERRORS", "STEP_FAILURE", "Shut down as step failed")
# EMR's own code for this is not published; the reasons' enumeration has none of its own for it.
IDLE = Ending("TERMINATED", "ALL_STEPS_COMPLETED", "Terminated by the auto-termination policy: the cluster was idle")
LOST = Ending(
    "TERMINATED_WITH_ERRORS",
    "INSTANCE_FAILURE",
    "The master node was lost",
    step_failure="The master node was lost while the step ran.",
)
LEFT = Ending(
    "TERMINATED_WITH_ERRORS",
    "INSTANCE_FAILURE",
    "The master node was lost: the local EMR endpoint was stopped or restarted while a step ran",
    step_failure="The local EMR endpoint was stopped or restarted while the step ran; the step's processes ended with "
    "it, as when a cluster loses its master node. The step can be run again on a new cluster.",
)
NODE_LOST = "The master node was lost."
BROKEN = Ending("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR", "The endpoint failed: see its log")

SPOT_LOSS = "Instance was terminated: Server.SpotInstanceTermination: Instance terminated due to a Spot interruption"
"""EC2's state reason for a spot instance that it takes back (EC2 User Guide, «Troubleshoot instance terminations»:
``Server.SpotInstanceTermination``); EMR's own sentence around it is not published."""

INSTANCE_LOSS = "Instance was terminated: Server.InternalError: An internal error caused the instance to terminate"
"""EC2's state reason for an on-demand instance whose machine broke (the same page)."""


def bootstrap_failed(fault: ClusterFault, instance_id: str) -> Ending:
    """Return the end of a cluster whose bootstrap action failed; the words are EMR's (as mrjob's tests quote them)."""
    message = f"On the master instance ({instance_id}), bootstrap action 1 returned a non-zero return code"
    return _as_told(Ending("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE", message), fault)


def out_of_capacity(fault: ClusterFault, instance_type: str, zone: str) -> Ending:
    """Return the end of a cluster that EC2 has no instances for.

    The words are EMR's (EMR Management Guide, «Amazon EMR cluster error: EC2 is out of capacity»), seen with the code
    INTERNAL_ERROR. Where a fleet's spot time-out says TERMINATE_CLUSTER, the code is INSTANCE_FLEET_TIMEOUT: a scenario
    may say so.
    """
    message = (
        f"EC2 is out of capacity for {instance_type} in availability zone {zone}. Learn more at "
        "https://docs.aws.amazon.com/console/elasticmapreduce/ERROR_noinstancecapacity"
    )
    return _as_told(Ending("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR", message, provisioned=False), fault)


def of_work(fault: ClusterFault) -> Ending:
    """Return the end of a cluster in the middle of a step."""
    return _as_told(BY_USER if fault.fails == "terminated" else LOST, fault)


def _as_told(ending: Ending, fault: ClusterFault) -> Ending:
    return replace(ending, code=fault.code or ending.code, message=fault.message or ending.message)
