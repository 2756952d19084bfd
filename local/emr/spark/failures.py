"""The message of a failed step, from its exit code and its output. Pure functions.

``include/autopsy`` reads the delivered logs with similar rules. The endpoint does not import ``include``: it stands for
Amazon EMR, which does not know this project either.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from local.emr.spark import time_limit

LOG_RECORD = re.compile(
    r"(\d\d(\d\d)?[/-]\d\d[/-]\d\d[ T]\d\d:\d\d:\d\d\S* (\S+ )??)?"
    r"(?P<level>DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)\b"
)
"""A line of log4j or of Python's logging."""

ERROR_LINE = re.compile(
    r"^(\S+ ){0,3}(ERROR|FATAL|CRITICAL)\b"
    r"|^Caused by: |^Exception in thread |^[\w.$]*(Error|Exception|Interrupt)\b(:|$)"
    r"|\b(error|fatal|failed): |: line \d+: |: (command not found|No such file or directory|Permission denied)$"
)
"""A line that says that it is an error: of log4j, logging, the JVM, Python, argparse, a compiler or a shell."""

QUIET_LEVELS = ("DEBUG", "INFO", "WARN", "WARNING")
IGNORED_PREFIXES = (
    *("Using Spark's default", "Setting default log level", "To adjust logging level", "NOTE: "),
    *("Driver stacktrace:", "JVM stacktrace:"),
)
"""Beginnings of lines of the JVM and of Spark that report no error."""

LONGEST_MESSAGE = 2_000
LONGEST_BLOCK = 12
TIME_LIMIT_CODE = 124
"""Exit code of timeout(1) if the command ended on the first signal; 137 if it had to be killed."""


def explain(argv: Sequence[str], exit_code: int | None, *, stdout: str, stderr: str) -> str:
    """Return one message about a failed command: how it ended, then the error in its output.

    Parameters
    ----------
    argv : sequence of str
        The command.
    exit_code : int or None
        Its exit code; negative for the signal that ended it; None if it is unknown.
    stdout, stderr : str
        The ends of its output.
    """
    ending = _ending(argv, exit_code)
    error = _error(argv, stdout, stderr)
    return "\n".join(part for part in (ending, error) if part)[:LONGEST_MESSAGE] or f"exit code {exit_code}"


def _error(argv: Sequence[str], stdout: str, stderr: str) -> str:
    submitted = any(word.rpartition("/")[2] in ("spark-submit", "run-example") for word in argv)
    if not submitted or 'Exception in thread "main"' in stderr:
        return last_error(stderr)
    # spark-submit sends the standard error of a Python driver to its own standard output
    # (org.apache.spark.deploy.PythonRunner); its standard error has the JVM's log only.
    return last_error(stdout) or last_error(stderr)


def _ending(argv: Sequence[str], exit_code: int | None) -> str:
    """Describe an end that the output does not explain (a signal, a time limit); empty for other exit codes."""
    limit = time_limit.duration(argv)
    if exit_code is None:
        return "The process that guarded the command was killed, and then the command was killed."
    if exit_code == TIME_LIMIT_CODE and limit:
        return f"The step ran longer than its time limit ({limit}) and was ended (exit code {exit_code})."
    if exit_code in (128 + signal.SIGKILL, -signal.SIGKILL) and limit:
        return f"The step was killed: its time limit ({limit}) passed, or memory ran out (exit code {exit_code})."
    if exit_code < 0:
        return f"The command was ended by signal {-exit_code} ({_signal_name(-exit_code)})."
    if exit_code > 128 and _signal_name(exit_code - 128) != "unknown":
        return f"The command was ended by signal {exit_code - 128} (exit code {exit_code})."
    return ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def last_error(output: str) -> str:
    """Return the last error in the output of a program; empty if the output has no error.

    ``FailureDetails.Message`` is «text from an error log that describes the root cause of the failure» (EMR API
    Reference). It is the last line that says that it is an error: the exception of a Python traceback, a Java
    ``Exception in thread "main"`` or ``Caused by``, a log record of level ERROR, or a line like ``error: …``. What the
    program prints after it, for example while it cleans up, is no part of it. Without such a line, it is the last line
    that is not a stack frame, a log record below ERROR or a known message without an error. The exception of a Python
    traceback is returned with its whole message.
    """
    lines = output.splitlines()
    candidates = [number for number, line in enumerate(lines) if _may_be_error(line)]
    if not candidates:
        return ""
    errors = [number for number in candidates if _ends_traceback(lines, number) or ERROR_LINE.search(lines[number])]
    start = errors[-1] if errors else candidates[-1]
    # A long message of an exception may contain lines that look like errors.
    first = next((n for n in range(start, max(-1, start - LONGEST_BLOCK), -1) if n not in candidates), -1) + 1
    if not _ends_traceback(lines, first):
        return lines[start].strip()
    end = first
    while end + 1 in candidates and end - first < LONGEST_BLOCK:
        end += 1
    return "\n".join(lines[first : end + 1]).strip()


def _ends_traceback(lines: Sequence[str], number: int) -> bool:
    """Return whether a line follows the frames of a Python traceback."""
    return number > 0 and lines[number - 1].startswith("  ")


def _may_be_error(line: str) -> bool:
    if not line.strip() or line[0].isspace() or line.startswith(IGNORED_PREFIXES):
        return False
    record = LOG_RECORD.match(line)
    return record is None or record["level"] not in QUIET_LEVELS
