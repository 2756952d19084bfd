"""The tags of a cluster: whose it is, and of which run. Pure.

EMR passes a cluster's tags on to its instances, and takes what EC2 takes: keys and values of letters, digits, spaces
and ``_ . : / = + - @``, at most 128 and 256 characters, none of which begins with ``aws:`` (EMR Management Guide,
"Restrictions that apply to tagging resources"; EC2 User Guide, "Tag restrictions": at most 50 a resource).
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
"""Set when the request is sent (:mod:`include.emr.client`): which of a run's rounds the cluster was made in."""

MANAGED_POLICIES_TAG = "for-use-with-amazon-emr-managed-policies"
"""The policy of EMR_DefaultRole_V2 allows clusters with this tag, set to ``true``, only."""

MOST_TAGS = 50
MOST_KEY_CHARACTERS = 128
MOST_VALUE_CHARACTERS = 256
RESERVED_PREFIX = "aws:"
ALLOWED = re.compile(r"[\w\s.:/=+\-@]*")

_PLAIN = frozenset(f"{string.ascii_letters}{string.digits}+-._:/@".encode())
_ESCAPED = re.compile(r"(?:[A-Za-z0-9+\-._:/@]|=[0-9A-F]{2})*")
_DIGEST = "=sha256:"
"""How the value of a text begins that does not fit: no escape, so that nothing else is encoded like it."""


def encode_tag(text: str) -> str:
    """Return a text as a tag's value, in 256 characters of those that tags may have.

    ASCII letters, digits and ``+ - . _ : / @`` stand for themselves, which is all that Airflow's own run ids and the
    roots of lakes are made of; every other byte of the UTF-8 is ``=`` and two hexadecimal digits. A text that becomes
    too long is represented by its digest: it can be compared with (encode the other, too), but not read back.
    """
    data = text.encode("utf-8", "surrogatepass")
    escaped = "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in data)
    if escaped.lower().startswith(RESERVED_PREFIX):
        escaped = f"={data[0]:02X}{escaped[1:]}"
    if len(escaped) > MOST_VALUE_CHARACTERS:
        return _DIGEST + hashlib.sha256(data).hexdigest()
    return escaped


def decode_tag(value: str) -> str | None:
    """Return the text that :func:`encode_tag` made a value of; None when that cannot be told from the value."""
    if not _ESCAPED.fullmatch(value):
        return None
    data = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), value.encode())
    try:
        text = data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return text if encode_tag(text) == value else None


def encode_run_id(run_id: str) -> str:
    """Return Airflow's run id as a tag's value, as :func:`encode_tag` does."""
    return encode_tag(run_id)


def decode_run_id(value: str) -> str | None:
    """Return the run id of a tag's value; None when there is none, or it was too long to be kept whole."""
    return decode_tag(value) or None


def run_tags(*, slug: str, run_id: str, lake: str, settings: Settings) -> dict[str, str]:
    """Return a cluster's tags: the deployment's own, and ours, which win.

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
        RUN_ID_TAG: encode_run_id(run_id),
        LAKE_TAG: encode_tag(lake),
        MANAGED_POLICIES_TAG: "true",
    }


OUR_TAGS = frozenset({PROJECT_TAG, RUN_TAG, RUN_ID_TAG, LAKE_TAG, ROUND_TAG, MANAGED_POLICIES_TAG})
