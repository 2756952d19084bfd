"""Amounts of which not all is known: what they are at least, and, if that can be told, at most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from include.records import AmountRecord


@dataclass(frozen=True)
class Amount:
    """An amount of money.

    Attributes
    ----------
    low : float
        It is not less: the known part.
    high : float or None
        It is not more; None when a price is unknown, so that nobody can tell.
    """

    low: float
    high: float | None

    @classmethod
    def of(cls, unit_price: float | None, quantity: float) -> Amount:
        """Return what a quantity costs at a unit price, which may be unknown."""
        if unit_price is None:
            return cls(0.0, 0.0 if quantity == 0 else None)
        return cls(unit_price * quantity, unit_price * quantity)

    @classmethod
    def up_to(cls, unit_price: float | None, quantity: float) -> Amount:
        """Return what a quantity costs at most, when only a price that is never exceeded is known."""
        return cls(0.0, cls.of(unit_price, quantity).high)

    def __add__(self, other: Amount) -> Amount:
        high = None if self.high is None or other.high is None else self.high + other.high
        return Amount(self.low + other.low, high)

    def times(self, factor: float) -> Amount:
        """Return the amount in another currency, or so many times."""
        return Amount(self.low * factor, None if self.high is None else self.high * factor)

    @property
    def exact(self) -> bool:
        """Whether it is known to the cent."""
        return self.high is not None and round(self.low, 4) == round(self.high, 4)

    def record(self) -> AmountRecord:
        """Return it for JSON, to a hundredth of a cent."""
        return {"low": round(self.low, 4), "high": None if self.high is None else round(self.high, 4)}


def total(amounts: Iterable[Amount]) -> Amount:
    """Return the sum; nothing at all is 0."""
    return sum(amounts, Amount(0.0, 0.0))


def describe_amount(record: AmountRecord, currency: str = "€") -> str:
    """Return an amount's record for people: exact, a range, what it is at least or at most, or that it is unknown."""
    low, high = record["low"], record["high"]
    if high is None and low == 0:
        return "unknown"
    if high is None:
        text = f"at least {low:,.2f}"
    elif f"{low:.2f}" == f"{high:.2f}":
        text = f"{high:,.2f}"
    else:
        text = f"{low:,.2f} to {high:,.2f}" if low else f"at most {high:,.2f}"
    return f"{text} {currency}".rstrip()
