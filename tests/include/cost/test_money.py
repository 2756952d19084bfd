"""Amounts that are partly known, and their descriptions."""

from __future__ import annotations

import pytest

from include.cost.money import Amount, describe_amount, total


def test_sum_with_an_unknown_amount_has_no_upper_bound() -> None:
    assert total([Amount(1, 1), Amount.of(None, 3), Amount(2, 5)]) == Amount(3, None)
    assert total([Amount(1, 1), Amount(2, 5)]) == Amount(3, 6)
    assert total([]) == Amount(0, 0)


def test_quantity_0_costs_nothing_at_an_unknown_price() -> None:
    assert Amount.of(None, 0) == Amount(0, 0)
    assert Amount.up_to(None, 2) == Amount(0, None)
    assert Amount.up_to(3, 2) == Amount(0, 6)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Amount(1234.5, 1234.5), "1,234.50 €"),
        (Amount(1, 2.5), "1.00 to 2.50 €"),
        (Amount(0, 2.5), "at most 2.50 €"),
        (Amount(1, None), "at least 1.00 €"),
        (Amount(0, None), "unknown"),
        (Amount(0, 0), "0.00 €"),
        (Amount(1.001, 1.004), "1.00 €"),
    ],
)
def test_amount_is_described_by_its_bounds(amount: Amount, text: str) -> None:
    assert describe_amount(amount.record()) == text


def test_multiplication_applies_to_both_bounds() -> None:
    assert Amount(2, 4).times(0.5) == Amount(1, 2)
    assert Amount(2, None).times(0.5) == Amount(1, None)
