"""The rules of a fault scenario, and their parser from JSON. ``docs/local-emr.md`` explains all keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, cast


class ScenarioError(ValueError):
    """A scenario is invalid; the message names the key."""


@dataclass(frozen=True)
class Rule:
    """How often a fault applies: the keys that all kinds of faults have."""

    times: int | Literal["forever"] = field(default=1, kw_only=True)
    skip: int = field(default=0, kw_only=True)


@dataclass(frozen=True)
class ApiFault(Rule):
    """Calls of API actions (a glob) return an error, return late, or get no response.

    With ``for_seconds``, the rule applies to all calls during this time after its first match.
    """

    action: str
    error: str | None = None
    message: str = "This error was injected by a fault scenario."
    http_status: int = 400
    when: Literal["before", "after"] = "before"
    delay_seconds: float = 0.0
    drops: bool = False
    for_seconds: float = 0.0


@dataclass(frozen=True)
class TimedRule(Rule):
    """A fault during a step.

    It happens ``after_seconds`` from the start of the step. With ``at_percent``, it happens ``after_seconds`` from the
    moment when a phase of the job whose name matches ``progress`` (a glob) reports that percentage.
    """

    after_seconds: float = field(default=0.0, kw_only=True)
    at_percent: int | None = field(default=None, kw_only=True)
    progress: str = field(default="*", kw_only=True)


@dataclass(frozen=True)
class ClusterFault(TimedRule):
    """A cluster fails while it starts (``bootstrap``, ``capacity``), or during a step.

    ``lost``: its primary node is lost; ``terminated``: a user terminates it; ``protected``: a user sets its termination
    protection, and it goes on. ``code`` and ``message`` replace the reason that EMR would give. ``stdout`` and
    ``stderr`` are the output of the failed bootstrap action.
    """

    fails: Literal["bootstrap", "capacity", "lost", "terminated", "protected"]
    name: str = "*"
    code: str | None = None
    message: str | None = None
    exit_code: int = 1
    stdout: str = ""
    stderr: str = "This failure was injected by a fault scenario."


@dataclass(frozen=True)
class StepFault(TimedRule):
    """A step fails in one of three ways.

    - ``exit_code``: its command does not run; the step ends with this exit code and these outputs.
    - ``hangs``: its command does not run, or is suspended, until its own time limit ends it. ``limit_seconds`` shortens
      the limit. With ``ignores_term``, only the kill after the limit's grace period ends it.
    - ``kills``: its command runs until its ``driver`` is killed. With ``executor``, an executor is killed and its
      instance is lost, ``losses`` times.
    """

    name: str
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = "This failure was injected by a fault scenario."
    container_stderr: str = ""
    hangs: bool = False
    limit_seconds: float = 0.0
    ignores_term: bool = False
    kills: Literal["driver", "executor"] | None = None
    losses: int = 1
    pause_seconds: float = 0.0


@dataclass(frozen=True)
class LogFault(Rule):
    """The logs of a cluster are delivered late, or never (``refused``). The rule applies to each delivery."""

    name: str = "*"
    delay_seconds: float = 0.0
    refused: bool = False


KINDS: dict[str, type[Rule]] = {"api": ApiFault, "clusters": ClusterFault, "steps": StepFault, "logs": LogFault}
CHOICES = {
    "when": ("before", "after"),
    "fails": ("bootstrap", "capacity", "lost", "terminated", "protected"),
    "kills": ("driver", "executor"),
    # ClusterStateChangeReasonCode of EMR's service model.
    "code": (
        *("INTERNAL_ERROR", "VALIDATION_ERROR", "INSTANCE_FAILURE", "INSTANCE_FLEET_TIMEOUT", "BOOTSTRAP_FAILURE"),
        *("USER_REQUEST", "STEP_FAILURE", "ALL_STEPS_COMPLETED"),
    ),
}
SWITCHES = ("hangs", "drops", "ignores_term", "refused")
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("action", "error", "message", "name", "stdout", "stderr", "container_stderr", "progress"), (str,)),
    **dict.fromkeys(("http_status", "skip", "exit_code", "at_percent", "losses"), (int,)),
    **dict.fromkeys(("delay_seconds", "after_seconds", "for_seconds", "limit_seconds", "pause_seconds"), (int, float)),
    **dict.fromkeys(SWITCHES, (bool,)),
}


def parse(text: str) -> dict[str, list[Rule]]:
    """Return the rules of a scenario.

    Raises
    ------
    ScenarioError
        If it is not JSON, or if a key is unknown, missing or invalid; the message names the key.
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
    problem = _contradiction(rule, member)
    if problem:
        raise ScenarioError(f"{where}: {problem}")
    return rule


def _contradiction(rule: Rule, member: Mapping[str, Any]) -> str | None:
    """Return the contradiction between the keys of a rule, or None. Each key alone is valid."""
    if isinstance(rule, ApiFault):
        return _api_contradiction(rule, member)
    if isinstance(rule, ClusterFault):
        if rule.fails in ("bootstrap", "capacity") and rule.at_percent is not None:
            return f"'at_percent' needs a running step, and no step runs when {rule.fails!r} fails"
    elif isinstance(rule, StepFault):
        return _step_contradiction(rule)
    elif not (cast("LogFault", rule).refused or cast("LogFault", rule).delay_seconds):
        return "give either 'delay_seconds' or 'refused': true"
    return None


def _api_contradiction(rule: ApiFault, member: Mapping[str, Any]) -> str | None:
    if rule.error is None and not rule.delay_seconds and not rule.drops:
        return "give 'error', 'drops', 'delay_seconds' or more of them"
    if rule.error is not None and rule.drops:
        return "give either 'error' or 'drops': true; a dropped connection has no answer"
    if rule.for_seconds and "times" in member:
        return "give either 'times' or 'for_seconds'"
    return None


def _step_contradiction(rule: StepFault) -> str | None:
    ways = [rule.exit_code is not None, rule.hangs, rule.kills is not None]
    if sum(ways) != 1:
        return "give either 'exit_code', or 'hangs': true, or 'kills'"
    if rule.exit_code is not None and (rule.at_percent is not None or rule.after_seconds):
        return "a command with 'exit_code' does not run: for a failure during the step, give 'kills': \"driver\""
    if not rule.hangs and (rule.limit_seconds or rule.ignores_term):
        return "'limit_seconds' and 'ignores_term' need 'hangs': true"
    if rule.ignores_term and (rule.at_percent is not None or rule.after_seconds):
        return "'ignores_term' needs a command that hangs from the start"
    return None


def _check_value(where: str, key: str, value: object) -> None:
    if key == "times":
        if value != "forever" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise ScenarioError(f'{where} must be a number of 1 or more, or "forever", not {value!r}')
    elif key in CHOICES:
        if value not in CHOICES[key]:
            raise ScenarioError(f"{where} must be one of {', '.join(CHOICES[key])}, not {value!r}")
    elif not isinstance(value, TYPES[key]) or (isinstance(value, bool) and key not in SWITCHES):
        raise ScenarioError(f"{where} must be of type {TYPES[key][-1].__name__}, not {value!r}")
    elif isinstance(value, (int, float)) and not 0 <= value < float("inf"):
        raise ScenarioError(f"{where} must not be negative, nor infinite, not {value!r}")
    elif key == "at_percent" and cast("int", value) > 100:
        raise ScenarioError(f"{where} must be at most 100, not {value!r}")
    elif key == "losses" and cast("int", value) < 1:
        raise ScenarioError(f"{where} must be 1 or more, not {value!r}")
