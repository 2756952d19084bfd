"""Tags: every text in the characters that AWS takes, read back as it was, or told that it cannot be."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.cluster.tags import decode_run_id, decode_tag, encode_run_id, encode_tag, run_tags
from include.settings.deployment import Settings

EC2_VALUE = re.compile(r"[A-Za-z0-9+\-=._:/@ ]{0,256}")
"""Letters, digits, spaces and these, at most 256 (EC2 User Guide, "Tag restrictions")."""


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_is_a_valid_value_and_is_read_back_or_said_to_be_lost(text: str) -> None:
    value = encode_tag(text)
    assert EC2_VALUE.fullmatch(value)
    assert not value.lower().startswith("aws:")
    assert decode_tag(value) in ({text} if not value.startswith("=sha256:") else {None})


@given(st.text(st.characters(exclude_categories=[]), max_size=400), st.text(max_size=400))
def test_two_texts_never_share_a_value(one: str, other: str) -> None:
    assert (encode_tag(one) == encode_tag(other)) == (one == other)


@pytest.mark.parametrize(
    "text",
    [
        "manual__2026-11-22T07:20:50.458586+00:00",
        "scheduled__2026-11-22T00:00:00+00:00",
        "s3://bucket-of-fruits/lake_1/a.b",
        "file:///home/someone/lake",
    ],
)
def test_usual_run_ids_and_roots_stand_for_themselves(text: str) -> None:
    assert encode_tag(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=b", "a=3Db"),
        ("AWS:x", "=41WS:x"),
        ("été", "=C3=A9t=C3=A9"),
        (" a ", "=20a=20"),
        ("", ""),
        ("=sha256:00", "=3Dsha256:00"),
    ],
)
def test_escapes_by_hand(text: str, value: str) -> None:
    assert encode_tag(text) == value
    assert decode_tag(value) == text


def test_longest_text_that_fits_is_kept_whole() -> None:
    assert decode_run_id(encode_run_id("x" * 256)) == "x" * 256
    assert decode_run_id(encode_run_id("é" * 42)) == "é" * 42


def test_text_that_does_not_fit_can_be_compared_but_not_read_back() -> None:
    long = "é" * 43
    value = encode_run_id(long)
    assert len(value) == 8 + 64
    assert decode_run_id(value) is None, "nobody takes it for another run"
    assert value == encode_run_id(long) != encode_run_id(long + "é")


@pytest.mark.parametrize("value", ["=", "=4", "=zz", "=c3", "a b", "é", "=61", "=FF", "=sha256:", "x" * 257, "AWS:x"])
def test_value_that_nobody_has_encoded_is_not_read(value: str) -> None:
    assert decode_tag(value) is None


def test_missing_run_id_is_none() -> None:
    assert decode_run_id("") is None


def test_our_tags_win_over_those_of_the_deployment() -> None:
    settings = replace(Settings(), tags=(("project", "other"), ("team", "data")))
    assert run_tags(slug="s", run_id="r", lake="s3://b", settings=settings) == {
        "project": "fruit-features",
        "team": "data",
        "fruit-features:run": "s",
        "fruit-features:run-id": "r",
        "fruit-features:lake": "s3://b",
        "for-use-with-amazon-emr-managed-policies": "true",
    }
