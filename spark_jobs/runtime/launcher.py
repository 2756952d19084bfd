"""Run a job as a program: logging, exit code, and the last line of a failure."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable

from spark_jobs.errors import JobError

logger = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def run(work: Callable[[], object]) -> int:
    """Run a job and return its exit code.

    Parameters
    ----------
    work : callable
        The job, with its arguments parsed.

    Returns
    -------
    int
        0 if the job returned; 1 if it raised. The last line of standard error is then the error's qualified name and
        message. An error other than :class:`JobError` has its stack trace above that line.
    """
    configure_logging()
    try:
        work()
    except JobError as error:
        sys.stderr.write(f"{describe(error)}\n")
        return 1
    except Exception as error:  # the outermost level of the program: report the error in full and return an exit code
        sys.stderr.write(f"{''.join(traceback.format_exception(error))}{describe(error)}\n")
        return 1
    finally:
        sys.stderr.flush()
    return 0


def configure_logging() -> None:
    """Log to standard error with timestamps, without py4j's messages about its connections."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT)
    logging.getLogger("py4j").setLevel(logging.WARNING)


def describe(error: BaseException) -> str:
    """Return an error as one line: its qualified name and its message.

    Spark wraps an error of a Python worker in two stack traces, its own outermost. From such a text this function
    extracts the worker's error: the last unindented line of the Python trace.
    """
    kind = type(error)
    worker_error = _worker_error(str(error))
    if worker_error:
        return worker_error
    message = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return f"{kind.__module__}.{kind.__qualname__}: {message}"


def _worker_error(text: str) -> str | None:
    """Return the last line of the first Python stack trace in a text, or None if there is no trace."""
    _, found, trace = text.partition("Traceback (most recent call last):\n")
    if not found:
        return None
    return next((line.strip() for line in trace.splitlines() if line.strip() and not line.startswith(" ")), None)
