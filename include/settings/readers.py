"""Readers of the deployment settings: each turns the text of one setting into its value.

A reader raises ``ValueError`` with what it expected; :func:`include.settings.deployment.read_settings` adds the
setting's name and value.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

_S3_SAFE_CHARACTERS = re.compile(r"[A-Za-z0-9!\-_.*'()/]+")


@dataclass(frozen=True)
class Notifier:
    """A notifier that Airflow calls when a run fails: the dotted path of a ``BaseNotifier`` class and its arguments."""

    path: str
    arguments: dict[str, Any]


def read_text(value: str) -> str:
    """Return the text without surrounding white space; it must not be empty."""
    if not value.strip():
        raise ValueError("a text that is not empty")
    return value.strip()


def read_optional(value: str) -> str | None:
    """Return the text, or None if it is empty or ``none``."""
    return None if value.strip().lower() in {"", "none"} else value.strip()


def read_names(value: str) -> tuple[str, ...]:
    """Return names that are separated by commas."""
    return tuple(name.strip() for name in value.split(",") if name.strip())


def read_tags(value: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of ``key=value,key=value``; each key must be unique."""
    pairs = [item.partition("=") for item in read_names(value)]
    if not all(key.strip() and separator for key, separator, _ in pairs):
        raise ValueError("key=value, separated by commas")
    tags = tuple((key.strip(), text.strip()) for key, _, text in pairs)
    if len(dict(tags)) < len(tags):
        raise ValueError("each key once")
    return tags


def read_location(value: str) -> str:
    """Return the root of a lake without a trailing slash.

    Raises
    ------
    ValueError
        If the value is not an S3 URI or an absolute ``file://`` URI. A folder on S3 may only contain S3's safe
        characters: spark-submit interprets others, in the addresses of its files, as URL syntax.
    """
    scheme, separator, rest = value.partition("://")
    if not separator or not rest.strip("/") or scheme != ("file" if rest[0] == "/" else "s3"):
        raise ValueError("s3://bucket[/folder] or file:///absolute/path")
    if scheme == "s3" and not _S3_SAFE_CHARACTERS.fullmatch(rest):
        raise ValueError("s3://bucket[/folder] of the letters A to Z, digits and ! - _ . * ' ( ) / only")
    return value.rstrip("/")


def read_optional_location(value: str) -> str | None:
    """Return a location as :func:`read_location` does, or None if the value is empty or ``none``."""
    return read_location(value) if read_optional(value) else None


def read_count(value: str) -> int:
    """Return a whole number from 0 to 10."""
    if value not in {str(count) for count in range(11)}:
        raise ValueError("a whole number from 0 to 10")
    return int(value)


def read_positive_count(value: str) -> int:
    """Return a whole number from 1 to 1000."""
    if not value.isdecimal() or not 1 <= int(value) <= 1000:
        raise ValueError("a whole number from 1 to 1000")
    return int(value)


_time_zones = functools.cache(available_timezones)  # it reads the whole database at each call


def read_zone(value: str) -> str:
    """Return the name of a time zone of the IANA database."""
    if value not in _time_zones():
        raise ValueError("a time zone's name, such as Europe/Paris")
    return ZoneInfo(value).key


def read_date(value: str) -> date:
    """Return a date, or a datetime with its time zone (a ``datetime`` is a ``date``, too)."""
    try:
        return date.fromisoformat(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError("a date as YYYY-MM-DD, or a time with its time zone as YYYY-MM-DDTHH:MM:SSZ")
    return moment


def read_notifier(value: str) -> Notifier | None:
    """Return the notifier of a JSON object, or None if the value is empty."""
    if not value.strip():
        return None
    expected = 'JSON such as {"path": "package.module.NotifierClass", "arguments": {…}}'
    try:
        record = json.loads(value)
    except ValueError:
        raise ValueError(expected) from None
    if not isinstance(record, dict) or not isinstance(record.get("path"), str) or "." not in record["path"]:
        raise ValueError(expected)
    if not isinstance(record.get("arguments", {}), dict) or set(record) - {"path", "arguments"}:
        raise ValueError(expected)
    return Notifier(record["path"], record.get("arguments", {}))


def choice_reader(*choices: str) -> Callable[[str], str]:
    """Return a reader that accepts these texts only."""

    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(" or ".join(map(repr, choices)))
        return value

    return read


def number_reader(expected: str, maximum: float = math.inf) -> Callable[[str], float]:
    """Return a reader of a finite number greater than 0 and at most ``maximum``; ``expected`` describes it."""

    def read(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (0 < number <= maximum and math.isfinite(number)):
            raise ValueError(expected)
        return number

    return read


read_seconds = number_reader("a number of seconds, more than 0 and at most 86400", maximum=86_400)
read_minutes = number_reader("a number of minutes, more than 0 and at most 1440", maximum=1440)
read_threshold = number_reader("a number greater than 0, such as 0.1")
_read_euros = number_reader("a number of euros greater than 0, such as 25, or none")


def read_optional_euros(value: str) -> float | None:
    """Return an amount greater than 0, or None if the value is empty or ``none``."""
    return None if read_optional(value) is None else _read_euros(value)
