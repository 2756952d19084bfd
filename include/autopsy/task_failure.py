"""Why a task failed, for the report of its run: kept as an XCom of the failed task."""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from include.autopsy.diagnosis import Diagnosis
from include.autopsy.logs import shorten
from include.records import FAILURE

log = logging.getLogger(__name__)

MAX_CAUSE = 2_000

CORRECT_CAUSE = "Correct what the cause names, then start the run again."
"""The advice for errors that a retry cannot fix: their messages say what was expected."""

READ_TRACEBACK = (
    "Read the traceback in the log of the task. If a service did not answer, or a resource was short, start the run "
    "again."
)
"""The advice for an error of no known class."""


class DiagnosedError(AirflowFailException):
    """The failure of a step or a cluster, after its autopsy. Airflow does not retry the task.

    Parameters
    ----------
    message : str
        The text for the task's log.
    diagnosis : Diagnosis
        The class, the cause and the advice for the report of the run.
    """

    def __init__(self, message: str, diagnosis: Diagnosis) -> None:
        super().__init__(message)
        self.diagnosis = diagnosis


def record_failure(context: Context) -> None:
    """Store why a task failed as its XCom: the callback of every task that fails. Never raises."""
    try:
        context["ti"].xcom_push(key=FAILURE, value=describe_error(context.get("exception")))
    except Exception:
        log.exception("The cause of the failure cannot be stored: the report of the run will not have it")


def describe_error(error: Any) -> dict[str, str]:
    """Return the class, the cause and the advice of a task's error, as texts."""
    if isinstance(error, DiagnosedError):
        diagnosis = error.diagnosis
        return {"kind": str(diagnosis.kind), "cause": shorten(diagnosis.cause, MAX_CAUSE), "advice": diagnosis.advice}
    # Tasks raise AirflowFailException from the error that describes the problem.
    kind = type(error.__cause__ or error).__name__ if isinstance(error, BaseException) else "unknown"
    advice = CORRECT_CAUSE if isinstance(error, AirflowFailException) else READ_TRACEBACK
    return {
        "kind": kind,
        "cause": shorten(str(error or "the log of the task has the reason"), MAX_CAUSE),
        "advice": advice,
    }
