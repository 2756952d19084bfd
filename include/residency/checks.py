"""The checks of where data may be: each question, its answer, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from include.records import Attestation, Check
from include.settings.deployment import Settings


class ResidencyError(RuntimeError):
    """Something is, or may be, outside the allowed regions; the message names every setting. A retry cannot help."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("Data may not leave its regions: " + "; ".join(problems))


class ResidencyUnansweredError(RuntimeError):
    """AWS did not answer (throttling, internal error, not reachable), so nothing may start; a retry may help."""


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class ResidencyChecks:
    """The checks of one occasion, and the problems that they found."""

    settings: Settings
    checks: list[Check] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, setting: str, value: str, answer: str | None, expected: str, advice: str) -> None:
        """Add an answer that must equal the expected one."""
        self.add(what, setting, value, answer, expected, advice, allowed=answer == expected)

    def add(
        self, what: str, setting: str, value: str, answer: str | None, expected: str, advice: str, *, allowed: bool
    ) -> None:
        """Add an answer and its verdict.

        Parameters
        ----------
        what : str
            The question, in words.
        setting, value : str
            The setting that was checked, and its value.
        answer : str or None
            The answer of AWS or of the client; None, a missing answer, is never allowed.
        expected, advice : str
            What was expected, and what to do otherwise; for the error message.
        allowed : bool
            Whether the answer is allowed.
        """
        is_allowed = answer is not None and allowed
        self.checks.append(
            {
                "what": what,
                "setting": setting,
                "value": value,
                "answer": answer,
                "verdict": "allowed" if is_allowed else "unknown" if answer is None else "refused",
                "checked_at": utc_now(),
            }
        )
        if not is_allowed:
            actual = "unknown" if answer is None else repr(answer)
            self.problems.append(f"{setting}={value!r}: {what} is {actual}, expected {expected}. {advice}")

    def raise_problems(self) -> None:
        """Stop if there is a problem.

        Raises
        ------
        ResidencyError
            With all problems.
        """
        if self.problems:
            raise ResidencyError(self.problems)

    def attest(self) -> Attestation:
        """Return the attestation for the manifest, if there is no problem.

        Raises
        ------
        ResidencyError
            With all problems.
        """
        self.raise_problems()
        return {
            "profile": self.settings.profile,
            "region": self.settings.region,
            "allowed_regions": list(self.settings.allowed_regions),
            "checked_at": utc_now(),
            "verdict": "allowed",
            "checks": self.checks,
        }
