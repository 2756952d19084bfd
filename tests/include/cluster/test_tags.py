"""Tags: any text is encoded in the characters that AWS allows, and decoded exactly or not at all."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from include.cluster.tags import decode_tag, encode_tag, run_tags
from include.settings.deployment import Settings

EC2_VALUE = re.compile(r"[A-Za-z0-9+\-=._:/@ ]{0,256}")
"""Letters, digits, spaces and these, at most 256 (EC2 User Guide, "Tag restrictions")."""


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_becomes_a_valid_value_and_is_decoded_exactly_or_not_at_all(text: str) -> None:
    value = encode_tag(text)
    assert EC2_VALUE.fullmatch(value)
    assert not value.lower().startswith("aws:")
    assert decode_tag(value) in ({text} if not value.startswith("=sha256:") else {None})


@given(st.text(st.characters(exclude_categories=[]), max_size=400), st.text(max_size=400))
def test_different_texts_have_different_values(one: str, other: str) -> None:
    assert (encode_tag(one) == encode_tag(other)) == (one == other)


def test_usual_run_ids_and_lakes_are_not_changed() -> None:
    for text in (
        "manual__2026-11-22T07:20:50.458586+00:00",
        "scheduled__2026-11-22T00:00:00+00:00",
        "s3://bucket-of-fruits/lake_1/a.b",
        "file:///home/someone/lake",
    ):
        assert encode_tag(text) == text


def test_escapes_by_hand() -> None:
    for text, value in {
        "a=b": "a=3Db",
        "AWS:x": "=41WS:x",
        "été": "=C3=A9t=C3=A9",
        " a ": "=20a=20",
        "": "",
        "=sha256:00": "=3Dsha256:00",
    }.items():
        assert encode_tag(text) == value
        assert decode_tag(value) == text


def test_longest_text_that_fits_is_decoded() -> None:
    assert decode_tag(encode_tag("x" * 256)) == "x" * 256
    assert decode_tag(encode_tag("é" * 42)) == "é" * 42


def test_text_that_is_too_long_can_be_compared_but_not_decoded() -> None:
    long = "é" * 43
    value = encode_tag(long)
    assert len(value) == 8 + 64
    assert decode_tag(value) is None
    assert value == encode_tag(long) != encode_tag(long + "é")


def test_value_of_another_encoding_is_not_decoded() -> None:
    for value in ("=", "=4", "=zz", "=c3", "a b", "é", "=61", "=FF", "=sha256:", "x" * 257, "AWS:x"):
        assert decode_tag(value) is None, value


def test_our_tags_override_those_of_the_deployment() -> None:
    settings = replace(Settings(), tags=(("project", "other"), ("team", "data")))
    assert run_tags(slug="s", run_id="r", lake="s3://b", settings=settings) == {
        "project": "fruit-features",
        "team": "data",
        "fruit-features:run": "s",
        "fruit-features:run-id": "r",
        "fruit-features:lake": "s3://b",
        "for-use-with-amazon-emr-managed-policies": "true",
    }
