"""Actions during a step: after a time, or when its job has reached a percentage of progress."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from local.emr.faults.scenario import TimedRule

logger = logging.getLogger(__name__)

PROGRESS = re.compile(rb"progress (?P<name>\S+): \d+/\d+ \S+ \((?P<percent>\d+) %\)")
"""A progress line of the jobs, such as ``progress featurize: 512/960 images (53 %)``.

The endpoint does not import the jobs, so this repeats ``PROGRESS_PATTERN`` of ``spark_jobs/runtime/progress.py``.
"""

POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Trigger:
    """An action and its moment. The action receives an event that is set when the step has ended."""

    moment: TimedRule
    act: Callable[[threading.Event], None]


class Progress:
    """The progress of a job, read from its logs while they grow."""

    def __init__(self, logs: Sequence[Path]) -> None:
        self._unread = dict.fromkeys(logs, (0, b""))
        self._percents: dict[str, int] = {}

    def read_on(self) -> None:
        """Read the lines that were written since the last call."""
        for path, (position, rest) in self._unread.items():
            if not path.exists() or path.stat().st_size <= position:
                continue
            with path.open("rb") as stream:
                stream.seek(position)
                written = stream.read()
            *lines, unfinished = (rest + written).split(b"\n")
            self._unread[path] = (position + len(written), unfinished)
            for line in lines:
                found = PROGRESS.search(line)
                if found:
                    name, percent = found["name"].decode(errors="replace"), int(found["percent"])
                    self._percents[name] = max(percent, self._percents.get(name, 0))

    def has_reached(self, percent: int, names: str) -> bool:
        """Return whether a phase whose name matches the glob ``names`` has reached a percentage."""
        return any(reached >= percent and fnmatchcase(name, names) for name, reached in self._percents.items())


class TriggerThread:
    """A thread that carries out the triggers of a running step.

    Parameters
    ----------
    triggers : sequence of Trigger
        The triggers; without any, no thread is started.
    logs : sequence of Path
        The files where the job reports its progress; they may not exist yet.
    shorten : callable
        Returns the real duration of a timer, in seconds.
    """

    def __init__(self, triggers: Sequence[Trigger], logs: Sequence[Path], shorten: Callable[[float], float]) -> None:
        self._triggers = list(triggers)
        self._progress = Progress(logs)
        self._shorten = shorten
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault triggers", daemon=True)

    def __enter__(self) -> None:
        if self._triggers:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._triggers:
            self._thread.join()

    def _run(self) -> None:
        begin = time.monotonic()
        waiting = {number: begin for number, trigger in enumerate(self._triggers) if trigger.moment.at_percent is None}
        left = set(range(len(self._triggers)))
        while left and not self._ended.wait(POLL_SECONDS):
            self._progress.read_on()
            for number in sorted(left):
                trigger = self._triggers[number]
                moment = trigger.moment
                if moment.at_percent is not None and self._progress.has_reached(moment.at_percent, moment.progress):
                    waiting.setdefault(number, time.monotonic())
                if number in waiting and time.monotonic() >= waiting[number] + self._shorten(moment.after_seconds):
                    left.remove(number)
                    self._act(trigger)

    def _act(self, trigger: Trigger) -> None:
        try:
            trigger.act(self._ended)
        except Exception:
            # Only the log shows that the fault was not injected: otherwise the system would seem to survive it.
            logger.exception("the fault %s could not be injected", trigger.moment)
