"""The record of what was asked about where data may be, and what came back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from include.settings.deployment import Settings

Verdict = Literal["allowed", "refused", "unknown"]


class ResidencyError(RuntimeError):
    """Something is, or may be, outside the allowed regions; the message names every setting. A retry cannot help."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("Data may not leave its regions: " + "; ".join(problems))


class ResidencyUnansweredError(RuntimeError):
    """AWS did not answer (throttled, failing within, out of reach), so nothing may start; a retry may help."""


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Attributes
    ----------
    what : str
        What was asked, for people.
    setting : str
        Where its value comes from.
    value : str
        That value.
    answer : str or None
        What AWS, or the client, says; None when it says nothing.
    verdict : str
        ``allowed``, ``refused``, or ``unknown``, which counts as refused.
    checked_at : str
        ISO 8601, UTC.
    """

    what: str
    setting: str
    value: str
    answer: str | None
    verdict: Verdict
    checked_at: str


@dataclass
class Attestation:
    """The checks of one occasion, and what they object to."""

    settings: Settings
    checks: list[Check] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, what: str, setting: str, value: str, answer: str | None, expected: str, advice: str) -> None:
        """Keep an answer that has to be this one; anything else is a problem."""
        self.keep(what, setting, value, answer, expected, advice, allowed=answer == expected)

    def keep(
        self, what: str, setting: str, value: str, answer: str | None, expected: str, advice: str, *, allowed: bool
    ) -> None:
        """Keep an answer with its verdict; without an answer it is not allowed, whatever was said."""
        verdict: Verdict = "unknown" if answer is None else "allowed" if allowed else "refused"
        self.checks.append(Check(what, setting, value, answer, verdict, utc_now()))
        if verdict != "allowed":
            found = "nothing that is certain" if answer is None else repr(answer)
            self.problems.append(f"{setting}={value!r}: {what} is {found}, expected {expected}. {advice}")

    def demand(self) -> None:
        """Stop when there is a problem.

        Raises
        ------
        ResidencyError
            With all of them.
        """
        if self.problems:
            raise ResidencyError(self.problems)

    def record(self, **more: Any) -> dict[str, Any]:
        """Return the attestation for the manifest: JSON, and only when nothing was objected to.

        Raises
        ------
        ResidencyError
            As :meth:`demand`.
        """
        self.demand()
        return {
            "profile": self.settings.profile,
            "region": self.settings.region,
            "allowed_regions": list(self.settings.allowed_regions),
            "checked_at": utc_now(),
            "verdict": "allowed",
            "checks": [asdict(check) for check in self.checks],
        } | more
