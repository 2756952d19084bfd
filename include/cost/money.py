"""Amounts of money with a lower bound and, unless a price is unknown, an upper bound."""

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
        Lower bound: the part with known prices.
    high : float or None
        Upper bound; None when a price is unknown.
    """

    low: float
    high: float | None

    @classmethod
    def of(cls, unit_price: float | None, quantity: float) -> Amount:
        """Return the cost of a quantity at a unit price, which may be unknown (None)."""
        if unit_price is None:
            return cls(0.0, 0.0 if quantity == 0 else None)
        return cls(unit_price * quantity, unit_price * quantity)

    @classmethod
    def up_to(cls, unit_price: float | None, quantity: float) -> Amount:
        """Return the cost of a quantity when only an upper limit of the unit price is known."""
        return cls(0.0, cls.of(unit_price, quantity).high)

    def __add__(self, other: Amount) -> Amount:
        high = None if self.high is None or other.high is None else self.high + other.high
        return Amount(self.low + other.low, high)

    def times(self, factor: float) -> Amount:
        """Return the amount multiplied by a factor, such as an exchange rate."""
        return Amount(self.low * factor, None if self.high is None else self.high * factor)

    @classmethod
    def read(cls, record: AmountRecord) -> Amount:
        """Return the amount of a record."""
        return cls(record["low"], record["high"])

    def record(self, digits: int = 4) -> AmountRecord:
        """Return it for JSON, by default to a hundredth of a cent."""
        return {"low": round(self.low, digits), "high": None if self.high is None else round(self.high, digits)}


def total(amounts: Iterable[Amount]) -> Amount:
    """Return the sum; without amounts it is 0."""
    return sum(amounts, Amount(0.0, 0.0))


def describe_amount(record: AmountRecord, currency: str = "€") -> str:
    """Return an amount as text: exact, a range, a lower or upper bound, or ``unknown``."""
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
