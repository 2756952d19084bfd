"""What goes wrong on demand: the rules of a scenario in force, read from a JSON file or set over HTTP.

:mod:`local.emr.faults.scenario` has the rules, and ``docs/local-emr.md`` a scenario with all of them. The first rule
of a list that matches and is not used up applies. Rules and their counters do not outlast the endpoint; a file is read
afresh by the next one. Delays are waiting timers: the endpoint's clock rate shortens them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from local.emr.faults.scenario import ApiFault, ClusterFault, LogFault, Rule, ScenarioError, StepFault, parse

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Rule)

MOST_MATCHES = 10_000
"""Matches that are remembered; the oldest go first."""


class Faults:
    """The rules in force, and how often each was used. Safe to use from several threads.

    Parameters
    ----------
    path : Path, optional
        Scenario file: read now, and again whenever it changes.
    clock_rate : float
        ``for_seconds`` pass this many times faster.

    Raises
    ------
    ScenarioError
        When the file cannot be followed.
    """

    def __init__(self, path: Path | None = None, *, clock_rate: float = 1.0) -> None:
        self._lock = threading.Lock()
        self._clock_rate = clock_rate
        self._rules: dict[str, list[Rule]] = {}
        self._seen: dict[int, int] = {}
        self._since: dict[int, float] = {}
        self._matches: list[dict[str, Any]] = []
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._broken: ScenarioError | None = None
        if path is not None:
            if not path.is_file():
                raise ScenarioError(f"there is no scenario file {path}")
            self.refresh()

    def refresh(self) -> None:
        """Read the scenario file again if it changed.

        Raises
        ------
        ScenarioError
            While the file cannot be followed, so that a typo is noticed at the first request.
        """
        with self._lock:
            self._read_again()

    def _read_again(self) -> None:
        if self._path is None or not self._path.exists():
            return
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._stamp, self._broken = stamp, None
            try:
                self._set(parse(self._path.read_text(encoding="utf-8")))
            except ScenarioError as error:
                self._broken = ScenarioError(f"{self._path}: {error}")
        if self._broken:
            raise self._broken

    def replace(self, text: str) -> None:
        """Follow another scenario from now on (the file's, once more, when that changes).

        Raises
        ------
        ScenarioError
            When it cannot be followed; the old one then stays.
        """
        rules = parse(text)
        with self._lock:
            self._broken = None
            self._set(rules)

    def extend(self, text: str) -> None:
        """Follow more rules, after those in force, whose counters stay.

        Raises
        ------
        ScenarioError
            When they cannot be followed; nothing is added then.
        """
        rules = parse(text)
        with self._lock:
            for kind, members in rules.items():
                self._rules.setdefault(kind, []).extend(members)

    def _set(self, rules: dict[str, list[Rule]]) -> None:
        self._rules, self._seen, self._since, self._matches = rules, {}, {}, []
        logger.info("faults: %s", {kind: len(members) for kind, members in rules.items() if members} or "none")

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rules in force, each with how many times it has matched."""
        with self._lock:
            return {
                kind: [asdict(rule) | {"matched": self._seen.get(id(rule), 0)} for rule in rules]
                for kind, rules in self._rules.items()
            }

    def matches(self) -> list[dict[str, Any]]:
        """Return what the scenario's rules were applied to, in order: when, which list and rule of it, and to what."""
        with self._lock:
            return list(self._matches)

    def for_action(self, action: str) -> ApiFault | None:
        """Return the fault of this call of an API action, and count it."""
        return self._take("api", ApiFault, action, lambda rule: fnmatchcase(action, rule.action))

    def for_capacity(self, cluster_name: str) -> ClusterFault | None:
        """Return the fault of a cluster that asks for its instances, and count it."""
        return self._for_cluster(cluster_name, "capacity")

    def for_bootstrap(self, cluster_name: str) -> ClusterFault | None:
        """Return the fault of a cluster that is starting, and count it."""
        return self._for_cluster(cluster_name, "bootstrap")

    def for_work(self, cluster_name: str) -> ClusterFault | None:
        """Return the fault of a cluster whose step begins, and count it."""
        return self._for_cluster(cluster_name, "lost", "terminated")

    def for_step(self, step_name: str) -> StepFault | None:
        """Return the fault of a step that is about to run, and count it."""
        return self._take("steps", StepFault, step_name, lambda rule: fnmatchcase(step_name, rule.name))

    def for_logs(self, cluster_name: str) -> LogFault | None:
        """Return the fault of a delivery of a cluster's logs, and count it."""
        return self._take("logs", LogFault, cluster_name, lambda rule: fnmatchcase(cluster_name, rule.name))

    def _for_cluster(self, name: str, *fails: str) -> ClusterFault | None:
        return self._take(
            "clusters", ClusterFault, name, lambda rule: rule.fails in fails and fnmatchcase(name, rule.name)
        )

    def _take(self, kind: str, type_: type[F], what: str, matches: Callable[[F], bool]) -> F | None:
        with self._lock:
            self._read_again()
            for number, rule in enumerate(self._rules.get(kind, [])):
                if isinstance(rule, type_) and matches(rule) and self._applies(rule):
                    logger.info("fault for %s: %s", what, rule)
                    match: Mapping[str, Any] = {"at": datetime.now(UTC).isoformat(), "kind": kind, "rule": number}
                    self._matches = [*self._matches[1 - MOST_MATCHES :], {**match, "what": what}]
                    return rule
            return None

    def _applies(self, rule: Rule) -> bool:
        """Count a match, and tell whether the rule applies to it; one that is used up counts no more."""
        count = self._seen.get(id(rule), 0) + 1
        if isinstance(rule, ApiFault) and rule.for_seconds:
            over = time.monotonic() - self._since.get(id(rule), float("inf")) > rule.for_seconds / self._clock_rate
        else:
            over = rule.times != "forever" and count > rule.skip + rule.times
        if over:
            return False
        self._seen[id(rule)] = count
        if count <= rule.skip:
            return False
        self._since.setdefault(id(rule), time.monotonic())
        return True
