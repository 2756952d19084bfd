"""The logs of a step as text, and the functions that find errors and tracebacks in a log. Pure.

``local/emr/spark/failures.py`` has a log parser too. It writes what EMR reports in FailureDetails, so it belongs to the
simulated side, which must not share code with the product that reads it: a mistake would then cancel out in tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

TRACEBACK = "Traceback (most recent call last):"
LONGEST_LINE = 600
LONGEST_TRACEBACK = 40

RECORD = re.compile(
    r"(?:\d\d(?:\d\d)?[/-]\d\d[/-]\d\d[ T]\d\d:\d\d:\d\d\S* (?:\[?\S+\]? )??)?"
    r"(?P<level>TRACE|DEBUG|INFO|WARN|WARNING|ERROR|FATAL|CRITICAL)\b"
)
"""The start of a record of log4j or of Python's logging."""

QUIET_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "WARNING")
NOISE = (
    "Using Spark's default",
    "Setting default log level",
    "To adjust logging level",
    "NOTE: ",
    "Driver stacktrace:",
)

EXIT_CODE = re.compile(r"ended with exit code (\d+)")
"""In the controller's log: ``INFO waitProcessCompletion ended with exit code 1``, as EMR writes for every step."""


@dataclass(frozen=True)
class ContainerLog:
    """The last part of a YARN container's standard error: that of an executor and its Python workers."""

    name: str
    text: str


@dataclass(frozen=True)
class StepLogs:
    """The logs of a step, or of a bootstrap action, as far as they could be read.

    Parameters
    ----------
    folder : str
        URI of their folder, which may not exist yet.
    stdout, stderr, controller : str
        The last part of each log. In client mode, ``stdout`` contains both streams of the Python driver, and
        ``stderr`` the log of its JVM.
    containers : tuple of ContainerLog
        The logs of the containers that failed, or else of other containers of the step.
    complete : bool
        Whether the controller's log contains the exit code: the three files will not change any more.
    notes : tuple of str
        Which logs could not be read, and why.
    """

    folder: str
    stdout: str = ""
    stderr: str = ""
    controller: str = ""
    containers: tuple[ContainerLog, ...] = ()
    complete: bool = False
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int | None:
        """The exit code in the controller's log; None until it is there."""
        codes = EXIT_CODE.findall(self.controller)
        return int(codes[-1]) if codes else None

    @property
    def is_empty(self) -> bool:
        """Whether all logs are empty."""
        return not (self.stdout or self.stderr or self.controller or self.containers)


def shorten(line: str, longest: int = LONGEST_LINE) -> str:
    """Return a line, cut to a maximum length."""
    line = line.strip()
    return line if len(line) <= longest else f"{line[:longest]} …"


def last_error(text: str) -> str:
    """Return the last line that reports an error, or an empty text.

    This is the last line that is not a stack frame, not a log record below ERROR and not a notice of the JVM: our jobs
    end with their error on one line (:mod:`spark_jobs.runtime.launcher`), Python with the exception.
    """
    for line in reversed(text.splitlines()):
        if line.strip() and not line[0].isspace() and not line.startswith(NOISE):
            record = RECORD.match(line)
            if record is None or record["level"] not in QUIET_LEVELS:
                return line.strip()
    return ""


def last_traceback(text: str) -> str:
    """Return the last complete Python traceback with its exception, or an empty text.

    A traceback whose exception is missing is skipped. The JVM's message may contain the traceback of a worker.
    """
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.rstrip().endswith(TRACEBACK)]
    for start in reversed(starts):
        for end in range(start + 1, len(lines)):
            if lines[end].strip() and not lines[end].startswith(" "):
                return _shorten_traceback([TRACEBACK, *lines[start + 1 : end + 1]])
    return ""


def _shorten_traceback(lines: list[str]) -> str:
    shown = lines
    if len(lines) > LONGEST_TRACEBACK:
        shown = [*lines[: LONGEST_TRACEBACK // 4], "  …", *lines[-3 * LONGEST_TRACEBACK // 4 :]]
    return "\n".join(line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} …" for line in shown)


def tail(text: str, lines: int) -> str:
    """Return the last lines of a text, each cut to a maximum length."""
    return "\n".join(shorten(line) if len(line) > LONGEST_LINE else line for line in text.splitlines()[-lines:])
