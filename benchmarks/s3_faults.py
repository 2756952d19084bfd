"""Faults that an S3 proxy injects: the rules that select the requests, and the error responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from xml.sax.saxutils import escape

RESET = "reset"
RESET_IN_BODY = "reset_in_body"
RESET_AFTER = "reset_after"

ERRORS = {
    "slow_down": (503, "Service Unavailable", "SlowDown", "Please reduce your request rate."),
    "internal_error": (500, "Internal Server Error", "InternalError", "We encountered an internal error."),
    "access_denied": (403, "Forbidden", "AccessDenied", "Access Denied"),
    "conflict": (
        409,
        "Conflict",
        "ConditionalRequestConflict",
        "A conflicting operation occurred.",
    ),
    # S3 may begin its answer to a long request, such as a copy, before it knows the outcome.
    "error_in_ok": (200, "OK", "InternalError", "We encountered an internal error."),
    "not_found": (404, "Not Found", "NoSuchKey", "The specified key does not exist."),
}
"""Faults that are error responses: status, reason, and S3's code and message (Amazon S3 API Reference)."""

FAULTS = (*ERRORS, RESET, RESET_IN_BODY, RESET_AFTER)


@dataclass(frozen=True)
class Rule:
    """The requests that get a fault instead of the store's response.

    Attributes
    ----------
    pattern : str
        Glob pattern of keys, without the bucket, case-sensitive. Only the empty pattern matches the requests for a
        bucket itself, such as listings.
    fault : str
        One of :data:`FAULTS`. ``reset`` resets the connection instead of a response; ``reset_in_body`` resets it after
        half of the object's bytes. ``reset_after`` lets the store do what is asked, and resets the connection instead
        of its response.
    times : int, optional
        Maximum number of faults for each key; no limit by default.
    methods : tuple of str
        HTTP methods that it matches.
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

    def matches(self, method: str, key: str) -> bool:
        """Return whether the rule matches a request."""
        return method in self.methods and bool(key) == bool(self.pattern) and fnmatchcase(key, self.pattern)


class Faults:
    """The active rules, and how often each has matched each key. The first rule that matches a request decides."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._hits: Counter[tuple[int, str]] = Counter()

    def choose(self, method: str, key: str) -> str | None:
        """Count a request and return its fault; None if it has none."""
        for number, rule in enumerate(self._rules):
            if rule.matches(method, key) and (rule.times is None or self._hits[number, key] < rule.times):
                self._hits[number, key] += 1
                return rule.fault
        return None


def error_response(fault: str, *, method: str, key: str, close: bool) -> tuple[bytes, bytes]:
    """Return head and body of the response of a fault of :data:`ERRORS`, in the format of S3."""
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
