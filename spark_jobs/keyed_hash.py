"""Keyed hashes: they tell whether two texts are equal, and nothing else to those who lack the key. Standard library."""

from __future__ import annotations

import hmac


def keyed_hash(key: bytes, data: bytes | bytearray | memoryview) -> str:
    """Return HMAC-SHA-256 of some bytes as hexadecimal digits (RFC 2104, FIPS 198-1).

    Parameters
    ----------
    key : bytes
        The lake's key.
    data : bytes-like
    """
    return hmac.new(key, data, "sha256").hexdigest()
