from __future__ import annotations

import pytest

from benchmarks import sorted_listing


@pytest.mark.slow
@pytest.mark.parametrize("side", sorted_listing.SIDES)
def test_all_keys_are_listed_in_a_new_process(side: str) -> None:
    figures = sorted_listing.measure(2_500, side)
    assert figures["keys"] == 2_500
    assert 0 < figures["first_seconds"] <= figures["seconds"]
    assert figures["memory_mib"] >= figures["memory_before_mib"] > 0
    assert sorted_listing.row(side, figures)[:2] == ["2,500", side]


@pytest.mark.slow
def test_a_missing_key_fails_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = type("Measured", (), {"figures": {"keys": 99}})()
    monkeypatch.setattr(sorted_listing.process, "measure_module", lambda *_, **options: figures)
    with pytest.raises(SystemExit, match="99 of 100 keys were listed in order"):
        sorted_listing.measure(100, "sorted")
