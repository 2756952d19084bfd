"""Faults that an S3 proxy makes on request: which requests they hit, and how each looks on the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from xml.sax.saxutils import escape

RESET = "reset"
RESET_IN_BODY = "reset_in_body"

ERRORS = {
    "slow_down": (503, "Service Unavailable", "SlowDown", "Please reduce your request rate."),
    "internal_error": (500, "Internal Server Error", "InternalError", "We encountered an internal error."),
    "access_denied": (403, "Forbidden", "AccessDenied", "Access Denied"),
    "not_found": (404, "Not Found", "NoSuchKey", "The specified key does not exist."),
}
"""Faults that are answers: status, its text, and S3's code and message (Amazon S3 API Reference, Error responses)."""

FAULTS = (*ERRORS, RESET, RESET_IN_BODY)


@dataclass(frozen=True)
class Rule:
    """Requests that get a fault instead of what they ask for.

    Attributes
    ----------
    pattern : str
        Glob pattern of keys, without the bucket, case-sensitive. The empty one takes the requests of a bucket itself,
        such as listings, which no other takes.
    fault : str
        One of :data:`FAULTS`. ``reset`` is a connection reset instead of an answer, ``reset_in_body`` one after half of
        the object's bytes.
    times : int, optional
        Hits the first so many requests of each key; all of them by default.
    methods : tuple of str
        HTTP methods that it hits.
    """

    pattern: str
    fault: str
    times: int | None = None
    methods: tuple[str, ...] = ("GET",)

    def __post_init__(self) -> None:
        if self.fault not in FAULTS:
            raise ValueError(f"{self.fault!r} is not one of the faults {', '.join(FAULTS)}")
        if self.times is not None and self.times < 1:
            raise ValueError(f"times is {self.times}: expected 1 or more, or None for always")

    def takes(self, method: str, key: str) -> bool:
        """Tell whether a request is one of those it hits."""
        return method in self.methods and bool(key) == bool(self.pattern) and fnmatchcase(key, self.pattern)


class Faults:
    """Rules in force, and how often each has hit each key; the first that takes a request decides."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._hits: Counter[tuple[int, str]] = Counter()

    def choose(self, method: str, key: str) -> str | None:
        """Return the fault of a request that has come, None for none, and count it."""
        for number, rule in enumerate(self._rules):
            if rule.takes(method, key) and (rule.times is None or self._hits[number, key] < rule.times):
                self._hits[number, key] += 1
                return rule.fault
        return None


def error_response(fault: str, *, method: str, key: str, close: bool) -> tuple[bytes, bytes]:
    """Return head and body of the answer that a fault of :data:`ERRORS` is, as S3 words it."""
    status, text, code, message = ERRORS[fault]
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><Key>{escape(key)}</Key>"
        "<RequestId>0000000000000000</RequestId></Error>"
    ).encode()
    headers = {"Content-Type": "application/xml", "Content-Length": len(body), "Server": "AmazonS3"}
    if close:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {status} {text}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode(), b"" if method == "HEAD" else body
