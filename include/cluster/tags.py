"""The tags of a cluster: its project, its run and its lake. Pure.

EMR copies a cluster's tags to its instances, so EC2's rules apply: at most 50 tags per resource; keys of at most 128
and values of at most 256 characters; letters, digits, spaces and ``_ . : / = + - @`` only; no prefix ``aws:`` (EMR
Management Guide, "Restrictions that apply to tagging resources"; EC2 User Guide, "Tag restrictions").
"""

from __future__ import annotations

import hashlib
import re
import string

from include.settings.deployment import Settings

PROJECT = "fruit-features"

PROJECT_TAG = "project"
RUN_TAG = f"{PROJECT}:run"
RUN_ID_TAG = f"{PROJECT}:run-id"
LAKE_TAG = f"{PROJECT}:lake"
ROUND_TAG = f"{PROJECT}:round"
"""The round of the run in which the cluster was created; :mod:`include.emr.client` sets it with the request."""

MANAGED_POLICIES_TAG = "for-use-with-amazon-emr-managed-policies"
"""The policy of EMR_DefaultRole_V2 only allows clusters that have this tag with the value ``true``."""

MAX_TAGS = 50
MAX_KEY_CHARACTERS = 128
MAX_VALUE_CHARACTERS = 256
RESERVED_PREFIX = "aws:"
ALLOWED = re.compile(r"[\w\s.:/=+\-@]*")

_PLAIN = frozenset(f"{string.ascii_letters}{string.digits}+-._:/@".encode())
_ESCAPED = re.compile(r"(?:[A-Za-z0-9+\-._:/@]|=[0-9A-F]{2})*")
_DIGEST = "=sha256:"
"""Prefix of the value of a text that is too long. It is not a valid escape, so no other text has such a value."""


def encode_tag(text: str) -> str:
    """Encode a text as the value of a tag: at most 256 of the characters that tags may have.

    ASCII letters, digits and ``+ - . _ : / @`` are kept; Airflow's run ids and the roots of lakes usually have no
    others. Every other byte of the UTF-8 text becomes ``=`` and two hexadecimal digits. If the result is too long, the
    value is the text's SHA-256 digest, which can be compared but not decoded.
    """
    data = text.encode("utf-8", "surrogatepass")
    escaped = "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in data)
    if escaped.lower().startswith(RESERVED_PREFIX):
        escaped = f"={data[0]:02X}{escaped[1:]}"
    if len(escaped) > MAX_VALUE_CHARACTERS:
        return _DIGEST + hashlib.sha256(data).hexdigest()
    return escaped


def decode_tag(value: str) -> str | None:
    """Return the text that :func:`encode_tag` encoded, or None if the value cannot be decoded."""
    if not _ESCAPED.fullmatch(value):
        return None
    data = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), value.encode())
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return text if encode_tag(text) == value else None


def run_tags(*, slug: str, run_id: str, lake: str, settings: Settings) -> dict[str, str]:
    """Return a cluster's tags: those of the deployment, overridden by ours.

    Parameters
    ----------
    slug : str
        The run's slug.
    run_id : str
        Airflow's run id.
    lake : str
        The lake's root.
    settings : Settings
        ``tags`` are the deployment's.
    """
    return dict(settings.tags) | {
        PROJECT_TAG: PROJECT,
        RUN_TAG: slug,
        RUN_ID_TAG: encode_tag(run_id),
        LAKE_TAG: encode_tag(lake),
        MANAGED_POLICIES_TAG: "true",
    }


OUR_TAGS = frozenset({PROJECT_TAG, RUN_TAG, RUN_ID_TAG, LAKE_TAG, ROUND_TAG, MANAGED_POLICIES_TAG})
