"""What goes wrong on demand: a scenario, read from a JSON file or set over HTTP.

A scenario has up to three lists; the first rule of a list that matches and is not used up applies::

    {
      "api": [{"action": "DescribeCluster", "error": "ThrottlingException", "message": "Rate exceeded",
               "http_status": 400, "when": "before", "skip": 0, "times": 1, "delay_seconds": 0}],
      "clusters": [{"fails": "bootstrap", "name": "*", "times": 1},
                   {"fails": "lost", "name": "*", "after_seconds": 5, "times": 1}],
      "steps": [{"name": "featurize*", "exit_code": 3, "stderr": "no space left on device", "times": "forever"},
                {"name": "pca", "hangs": true}]
    }

``times`` is how often a rule applies (1 by default) or ``"forever"``; ``skip`` lets the first matches pass. ``when`` is
``before`` the action takes effect or ``after`` it did (the caller sees an error, yet the cluster exists). Names are
glob patterns. Delays are waiting timers: the endpoint's clock rate shortens them.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeVar

logger = logging.getLogger(__name__)


class ScenarioError(ValueError):
    """A scenario that cannot be followed; the message names the key."""


@dataclass(frozen=True)
class Rule:
    """When a fault applies; every kind of fault has these."""

    times: int | Literal["forever"] = field(default=1, kw_only=True)
    skip: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class ApiFault(Rule):
    """An API action that answers with an error, or late, or both."""

    action: str
    error: str | None = None
    message: str = "This error was asked for."
    http_status: int = 400
    when: Literal["before", "after"] = "before"
    delay_seconds: float = 0.0


@dataclass(frozen=True)
class ClusterFault(Rule):
    """A cluster that fails while it starts (``bootstrap``), or so long after a step began (``lost``)."""

    fails: Literal["bootstrap", "lost"]
    name: str = "*"
    after_seconds: float = 0.0


@dataclass(frozen=True)
class StepFault(Rule):
    """A step whose command is not run: it ends with an exit code, or hangs."""

    name: str
    exit_code: int | None = None
    stderr: str = "This failure was asked for."
    hangs: bool = False


F = TypeVar("F", bound=Rule)

KINDS: dict[str, type[Rule]] = {"api": ApiFault, "clusters": ClusterFault, "steps": StepFault}
CHOICES = {"when": ("before", "after"), "fails": ("bootstrap", "lost")}
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("action", "error", "message", "name", "stderr"), (str,)),
    **dict.fromkeys(("http_status", "skip", "exit_code"), (int,)),
    **dict.fromkeys(("delay_seconds", "after_seconds"), (int, float)),
    "hangs": (bool,),
}


class Faults:
    """The rules in force, and how often each was used. Safe to use from several threads.

    Parameters
    ----------
    path : Path, optional
        Scenario file: read now, and again whenever it changes.

    Raises
    ------
    ScenarioError
        When the file cannot be followed.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._rules: dict[str, list[Rule]] = {}
        self._seen: dict[int, int] = {}
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

    def _set(self, rules: dict[str, list[Rule]]) -> None:
        self._rules, self._seen = rules, {}
        logger.info("faults: %s", {kind: len(members) for kind, members in rules.items() if members} or "none")

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rules in force, each with how many times it has matched."""
        with self._lock:
            return {
                kind: [asdict(rule) | {"matched": self._seen.get(id(rule), 0)} for rule in rules]
                for kind, rules in self._rules.items()
            }

    def for_action(self, action: str) -> ApiFault | None:
        """Return the fault of this call of an API action, and count it."""
        return self._take("api", ApiFault, lambda rule: rule.action == action)

    def for_bootstrap(self, cluster_name: str) -> ClusterFault | None:
        """Return the fault of a cluster that is starting, and count it."""
        return self._take("clusters", ClusterFault, lambda rule: _fits(rule, "bootstrap", cluster_name))

    def for_work(self, cluster_name: str) -> ClusterFault | None:
        """Return the fault of a cluster whose step begins, and count it."""
        return self._take("clusters", ClusterFault, lambda rule: _fits(rule, "lost", cluster_name))

    def for_step(self, step_name: str) -> StepFault | None:
        """Return the fault of a step that is about to run, and count it."""
        return self._take("steps", StepFault, lambda rule: fnmatchcase(step_name, rule.name))

    def _take(self, kind: str, type_: type[F], matches: Any) -> F | None:
        with self._lock:
            self._read_again()
            for rule in self._rules.get(kind, []):
                if not isinstance(rule, type_) or not matches(rule):
                    continue
                count = self._seen.get(id(rule), 0) + 1
                if rule.times == "forever" or count <= rule.skip + rule.times:
                    self._seen[id(rule)] = count
                    if count > rule.skip:
                        logger.info("fault: %s", rule)
                        return rule
            return None


def _fits(rule: ClusterFault, fails: str, cluster_name: str) -> bool:
    return rule.fails == fails and fnmatchcase(cluster_name, rule.name)


def parse(text: str) -> dict[str, list[Rule]]:
    """Return the rules of a scenario.

    Raises
    ------
    ScenarioError
        When it is not JSON, or has an unknown, missing or wrong key; the message names it.
    """
    try:
        scenario = json.loads(text)
    except json.JSONDecodeError as error:
        raise ScenarioError(f"not JSON: {error}") from None
    if not isinstance(scenario, dict):
        raise ScenarioError(f"expected an object with the lists {', '.join(KINDS)}")
    rules = {}
    for kind, members in scenario.items():
        if kind not in KINDS:
            raise ScenarioError(f"unknown key {kind!r}: expected one of {', '.join(KINDS)}")
        if not isinstance(members, list) or not all(isinstance(member, dict) for member in members):
            raise ScenarioError(f"{kind!r} must be a list of objects")
        rules[kind] = [_rule(f"{kind}[{number}]", KINDS[kind], member) for number, member in enumerate(members)]
    return rules


def _rule(where: str, type_: type[Rule], member: Mapping[str, Any]) -> Rule:
    known = {item.name: item for item in fields(type_)}
    for key, value in member.items():
        if key not in known:
            raise ScenarioError(f"{where}: unknown key {key!r}: expected {', '.join(sorted(known))}")
        _check_value(f"{where}.{key}", key, value)
    for name, item in known.items():
        if item.default is MISSING and name not in member:
            raise ScenarioError(f"{where}: the key {name!r} is missing")
    rule = type_(**member)
    if isinstance(rule, ApiFault) and rule.error is None and not rule.delay_seconds:
        raise ScenarioError(f"{where}: give 'error', 'delay_seconds' or both")
    if isinstance(rule, StepFault) and (rule.exit_code is None) != rule.hangs:
        raise ScenarioError(f"{where}: give either 'exit_code' or 'hangs': true")
    return rule


def _check_value(where: str, key: str, value: object) -> None:
    if key == "times":
        if value != "forever" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ScenarioError(f'{where} must be a number of 1 or more, or "forever", not {value!r}')
    elif key in CHOICES:
        if value not in CHOICES[key]:
            raise ScenarioError(f"{where} must be one of {', '.join(CHOICES[key])}, not {value!r}")
    elif not isinstance(value, TYPES[key]) or (isinstance(value, bool) and key != "hangs"):
        raise ScenarioError(f"{where} must be of type {TYPES[key][-1].__name__}, not {value!r}")
    elif isinstance(value, (int, float)) and value < 0:
        raise ScenarioError(f"{where} must not be negative, not {value!r}")
