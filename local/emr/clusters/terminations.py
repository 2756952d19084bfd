"""Why clusters terminate: states and reasons as EMR reports them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from local.emr.faults.scenario import ClusterFault


@dataclass(frozen=True)
class Termination:
    """Why a cluster terminates, and its last state.

    Parameters
    ----------
    state, code, message : str
        Its last state, and the code and message of the reason.
    step_failure : str
        Why its running steps failed; empty if they are cancelled.
    provisioned : bool
        Whether it had instances.
    """

    state: str
    code: str
    message: str
    step_failure: str = ""
    provisioned: bool = True


USER_REQUEST = Termination("TERMINATED", "USER_REQUEST", "Terminated by user request")
STEPS_COMPLETED = Termination("TERMINATED", "ALL_STEPS_COMPLETED", "Steps completed")
STEPS_COMPLETED_WITH_ERRORS = Termination("TERMINATED", "ALL_STEPS_COMPLETED", "Steps completed with errors")
STEP_FAILURE = Termination("TERMINATED_WITH_ERRORS", "STEP_FAILURE", "Shut down as step failed")
# The code that EMR reports for this is not published, and the enumeration of codes has no obvious one.
IDLE_TIMEOUT = Termination(
    "TERMINATED", "ALL_STEPS_COMPLETED", "Terminated by the auto-termination policy: the cluster was idle"
)
PRIMARY_NODE_LOST = Termination(
    "TERMINATED_WITH_ERRORS",
    "INSTANCE_FAILURE",
    "The master node was lost",
    step_failure="The master node was lost while the step ran.",
)
ENDPOINT_STOPPED = Termination(
    "TERMINATED_WITH_ERRORS",
    "INSTANCE_FAILURE",
    "The master node was lost: the local EMR endpoint was stopped or restarted while a step ran",
    step_failure="The local EMR endpoint was stopped or restarted while the step ran; the step's processes ended with "
    "it, as when a cluster loses its master node. The step can be run again on a new cluster.",
)
PRIMARY_NODE_LOST_REASON = "The master node was lost."
INTERNAL_ERROR = Termination("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR", "The endpoint failed: see its log")

SPOT_INTERRUPTION = (
    "Instance was terminated: Server.SpotInstanceTermination: Instance terminated due to a Spot interruption"
)
"""EC2's state reason for an interrupted spot instance (EC2 User Guide, «Troubleshoot instance terminations»:
``Server.SpotInstanceTermination``); EMR's sentence around it is not published."""

INSTANCE_FAILURE = "Instance was terminated: Server.InternalError: An internal error caused the instance to terminate"
"""EC2's state reason for an on-demand instance whose host failed (the same page)."""


def bootstrap_failed(fault: ClusterFault, instance_id: str) -> Termination:
    """Return the termination after a failed bootstrap action; the words are EMR's (quoted from mrjob's tests)."""
    message = f"On the master instance ({instance_id}), bootstrap action 1 returned a non-zero return code"
    return _with_overrides(Termination("TERMINATED_WITH_ERRORS", "BOOTSTRAP_FAILURE", message), fault)


def out_of_capacity(fault: ClusterFault, instance_type: str, zone: str) -> Termination:
    """Return the termination for lack of EC2 capacity.

    The words are EMR's (EMR Management Guide, «Amazon EMR cluster error: EC2 is out of capacity»), seen with the code
    INTERNAL_ERROR. If the spot time-out of a fleet is TERMINATE_CLUSTER, the code is INSTANCE_FLEET_TIMEOUT: a scenario
    can set it.
    """
    message = (
        f"EC2 is out of capacity for {instance_type} in availability zone {zone}. Learn more at "
        "https://docs.aws.amazon.com/console/elasticmapreduce/ERROR_noinstancecapacity"
    )
    return _with_overrides(Termination("TERMINATED_WITH_ERRORS", "INTERNAL_ERROR", message, provisioned=False), fault)


def during_step(fault: ClusterFault) -> Termination:
    """Return the termination that a fault causes while a step runs."""
    return _with_overrides(USER_REQUEST if fault.fails == "terminated" else PRIMARY_NODE_LOST, fault)


def _with_overrides(termination: Termination, fault: ClusterFault) -> Termination:
    return replace(termination, code=fault.code or termination.code, message=fault.message or termination.message)
