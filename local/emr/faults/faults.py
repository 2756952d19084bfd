"""The active rules of a fault scenario, from a JSON file or set over HTTP.

:mod:`local.emr.faults.scenario` defines the rules; ``docs/local-emr.md`` explains them. The first rule of a list that
matches and is not used up applies. Rules and their counters are not saved: the next endpoint reads the file again. The
endpoint's clock rate shortens all delays.
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

MAX_MATCHES = 10_000
"""Maximum number of matches in the list; the oldest are dropped."""


class Faults:
    """The active rules, with the number of matches of each. Thread-safe.

    Parameters
    ----------
    path : Path, optional
        Scenario file: read now, and again after each change.
    clock_rate : float
        ``for_seconds`` is divided by this rate.

    Raises
    ------
    ScenarioError
        If the file is missing or invalid.
    """

    def __init__(self, path: Path | None = None, *, clock_rate: float = 1.0) -> None:
        self._lock = threading.Lock()
        self._clock_rate = clock_rate
        self._rules: dict[str, list[Rule]] = {}
        self._counts: dict[int, int] = {}
        self._first_applied: dict[int, float] = {}
        self._matches: list[dict[str, Any]] = []
        self._path = path
        self._file_version: tuple[int, int] | None = None
        self._file_error: ScenarioError | None = None
        if path is not None:
            if not path.is_file():
                raise ScenarioError(f"there is no scenario file {path}")
            self.refresh()

    def refresh(self) -> None:
        """Read the scenario file again if it changed.

        Raises
        ------
        ScenarioError
            While the file is invalid, so that the first request reports a typo.
        """
        with self._lock:
            self._read_again()

    def _read_again(self) -> None:
        if self._path is None or not self._path.exists():
            return
        status = self._path.stat()
        version = (status.st_mtime_ns, status.st_size)
        if version != self._file_version:
            self._file_version, self._file_error = version, None
            try:
                self._set(parse(self._path.read_text(encoding="utf-8")))
            except ScenarioError as error:
                self._file_error = ScenarioError(f"{self._path}: {error}")
        if self._file_error:
            raise self._file_error

    def replace(self, text: str) -> None:
        """Replace all rules. If the file changes later, its rules replace these.

        Raises
        ------
        ScenarioError
            If the scenario is invalid; the rules then do not change.
        """
        rules = parse(text)
        with self._lock:
            self._file_error = None
            self._set(rules)

    def extend(self, text: str) -> None:
        """Append rules. The counters of the existing rules stay.

        Raises
        ------
        ScenarioError
            If the scenario is invalid; no rule is added then.
        """
        rules = parse(text)
        with self._lock:
            for kind, members in rules.items():
                self._rules.setdefault(kind, []).extend(members)

    def _set(self, rules: dict[str, list[Rule]]) -> None:
        self._rules, self._counts, self._first_applied, self._matches = rules, {}, {}, []
        logger.info("faults: %s", {kind: len(members) for kind, members in rules.items() if members} or "none")

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """Return the active rules, each with the number of its matches."""
        with self._lock:
            return {
                kind: [asdict(rule) | {"matched": self._counts.get(id(rule), 0)} for rule in rules]
                for kind, rules in self._rules.items()
            }

    def matches(self) -> list[dict[str, Any]]:
        """Return the matches in order: the time, the list, the number of the rule in it, and what it was applied to."""
        with self._lock:
            return list(self._matches)

    def for_action(self, action: str) -> ApiFault | None:
        """Return the fault of a call of an API action, and count the match."""
        return self._take("api", ApiFault, action, lambda rule: fnmatchcase(action, rule.action))

    def for_capacity(self, cluster_name: str) -> ClusterFault | None:
        """Return the fault of a cluster that requests its instances, and count the match."""
        return self._for_cluster(cluster_name, "capacity")

    def for_bootstrap(self, cluster_name: str) -> ClusterFault | None:
        """Return the fault of a cluster that bootstraps, and count the match."""
        return self._for_cluster(cluster_name, "bootstrap")

    def for_running_cluster(self, cluster_name: str) -> ClusterFault | None:
        """Return the fault of a cluster whose step starts, and count the match."""
        return self._for_cluster(cluster_name, "lost", "terminated", "protected")

    def for_step(self, step_name: str) -> StepFault | None:
        """Return the fault of a step that starts, and count the match."""
        return self._take("steps", StepFault, step_name, lambda rule: fnmatchcase(step_name, rule.name))

    def for_logs(self, cluster_name: str) -> LogFault | None:
        """Return the fault of a delivery of a cluster's logs, and count the match."""
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
                    self._matches = [*self._matches[1 - MAX_MATCHES :], {**match, "what": what}]
                    return rule
            return None

    def _applies(self, rule: Rule) -> bool:
        """Count a match and return whether the rule applies to it. A rule that is used up counts no more matches."""
        count = self._counts.get(id(rule), 0) + 1
        if isinstance(rule, ApiFault) and rule.for_seconds:
            used_up = (
                time.monotonic() - self._first_applied.get(id(rule), float("inf")) > rule.for_seconds / self._clock_rate
            )
        else:
            used_up = rule.times != "forever" and count > rule.skip + rule.times
        if used_up:
            return False
        self._counts[id(rule)] = count
        if count <= rule.skip:
            return False
        self._first_applied.setdefault(id(rule), time.monotonic())
        return True
