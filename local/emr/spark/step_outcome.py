"""The outcome of a step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Parameters
    ----------
    state : str
        COMPLETED, FAILED or CANCELLED.
    message : str
        Why it failed; empty otherwise.
    log_file : str
        URI of its compressed standard error; empty if the cluster has no LogUri.
    cause : str
        The ``Reason`` of its FailureDetails. EMR does not classify the failures of commands.
    """

    state: str
    message: str = ""
    log_file: str = ""
    cause: str = "Unknown Error."
