"""The logs of a step as texts, and what can be read out of any log. Pure."""

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
"""A line of log4j or of Python's logging."""

QUIET_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "WARNING")
NOISE = (
    "Using Spark's default",
    "Setting default log level",
    "To adjust logging level",
    "NOTE: ",
    "Driver stacktrace:",
)

EXIT_CODE = re.compile(r"ended with exit code (\d+)")
"""In the controller's log: ``INFO waitProcessCompletion ended with exit code 1``, EMR's words for every step."""


@dataclass(frozen=True)
class ContainerLog:
    """The end of a YARN container's standard error: an executor's, whose Python workers write there too."""

    name: str
    text: str


@dataclass(frozen=True)
class StepLogs:
    """What could be read of a step's logs, or of a bootstrap action's.

    Parameters
    ----------
    folder : str
        URI of the folder where they are, or will be.
    stdout, stderr, controller : str
        Their ends. In client mode ``stdout`` has both streams of the Python driver, ``stderr`` the log of its JVM.
    containers : tuple of ContainerLog
        Those of the containers that failed, or of the last ones.
    complete : bool
        Whether the controller has told how the command ended: nothing more will come to the three files then.
    notes : tuple of str
        What could not be read, and why.
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
        """The exit code of the command, as the controller tells it; None while it does not."""
        codes = EXIT_CODE.findall(self.controller)
        return int(codes[-1]) if codes else None

    @property
    def empty(self) -> bool:
        """Whether there is nothing at all."""
        return not (self.stdout or self.stderr or self.controller or self.containers)


def shorten(line: str, longest: int = LONGEST_LINE) -> str:
    """Return a line in a bounded length."""
    line = line.strip()
    return line if len(line) <= longest else f"{line[:longest]} …"


def last_error(text: str) -> str:
    """Return the last line that tells of an error; empty when there is none.

    That is the last line that is no stack frame, no record of a log below ERROR and no chatter of the JVM: our jobs end
    with their error on one line (:mod:`spark_jobs.runtime.launcher`), Python with the exception.
    """
    for line in reversed(text.splitlines()):
        if line.strip() and not line[0].isspace() and not line.startswith(NOISE):
            record = RECORD.match(line)
            if record is None or record["level"] not in QUIET_LEVELS:
                return line.strip()
    return ""


def last_traceback(text: str) -> str:
    """Return the last whole Python traceback, with its exception; empty when there is none.

    One whose exception was cut off is passed over. The traceback of a worker stands within the JVM's message.
    """
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.rstrip().endswith(TRACEBACK)]
    for start in reversed(starts):
        for end in range(start + 1, len(lines)):
            if lines[end].strip() and not lines[end].startswith(" "):
                return _shorten_traceback([TRACEBACK, *lines[start + 1 : end + 1]])
    return ""


def _shorten_traceback(lines: list[str]) -> str:
    kept = lines
    if len(lines) > LONGEST_TRACEBACK:
        kept = [*lines[: LONGEST_TRACEBACK // 4], "  …", *lines[-3 * LONGEST_TRACEBACK // 4 :]]
    return "\n".join(line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} …" for line in kept)


def tail(text: str, lines: int) -> str:
    """Return the last lines of a text, each in a bounded length."""
    return "\n".join(shorten(line) if len(line) > LONGEST_LINE else line for line in text.splitlines()[-lines:])
