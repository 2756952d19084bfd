"""``docs/local-emr.md``: its example is a valid scenario with all kinds of faults, and it explains every key."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from local.emr.faults.scenario import KINDS, parse

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "local-emr.md").read_text(encoding="utf-8")


def test_the_example_is_valid_and_has_every_kind() -> None:
    [example] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    rules = parse(example)
    assert rules.keys() == KINDS.keys()
    assert {rule.fails for rule in rules["clusters"]} == {"capacity", "bootstrap", "lost", "terminated", "protected"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_explained(kind: str) -> None:
    explained = set(re.findall(r"`(\w+)`", PAGE))
    assert {field.name for field in fields(KINDS[kind])} <= explained
