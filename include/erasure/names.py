"""Names of erased photos in texts: found in JSON, HTML and other text, and taken out of JSON. Pure."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any
from urllib.parse import unquote

ERASED_TEXT = "(erased)"
"""Replaces a text that names an erased photo where it cannot be left out."""


STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
"""A string of JSON (RFC 8259, section 7)."""


def _strings(text: str) -> Iterator[str]:
    for literal in STRING.findall(text):
        try:
            yield json.loads(literal)
        except ValueError:  # it is no JSON
            continue


class Names:
    """Paths relative to the lake's root, and labels none of whose photos stay.

    Parameters
    ----------
    paths, labels : iterable of str
        The names.
    """

    def __init__(self, paths: Iterable[str], labels: Iterable[str]) -> None:
        self.paths = frozenset(paths)
        self.labels = frozenset(labels)

    @cached_property
    def _begins(self) -> list[str]:
        return sorted({f"{path.partition('/')[0]}/" for path in self.paths})

    @cached_property
    def _lengths(self) -> list[int]:
        return sorted({len(path) for path in self.paths})

    @cached_property
    def _short(self) -> frozenset[str]:
        """The paths in the folder of images, which the ledger of loaded images has as keys."""
        return frozenset(path.partition("/")[2] for path in self.paths)

    def has_path(self, text: str) -> bool:
        """Return whether a text contains one of the paths."""
        # Each path begins with the name of a folder of the lake: only what follows this name is compared.
        for begin in self._begins:
            start = text.find(begin)
            while start >= 0:
                if any(text[start : start + length] in self.paths for length in self._lengths):
                    return True
                start = text.find(begin, start + 1)
        return False

    def is_in_page(self, data: bytes) -> bool:
        """Return whether HTML or any other text contains one of the paths, also escaped for HTML, JSON or URLs.

        The data of a report's page has paths relative to the folder of images, each as a string of its own.
        """
        text = html.unescape(data.decode("utf-8", "replace"))
        if not self._short.isdisjoint(_strings(text)):
            return True
        unescaped = text.encode("utf-8", "replace").decode("unicode_escape", "replace") if "\\u" in text else ""
        return any(self.has_path(each) for each in (text, unquote(text), unescaped))

    def scrub(self, value: Any, key: str = "") -> Any:
        """Return a JSON value without the names; ``key`` is the key whose value it is.

        Items of lists that name an erased photo are left out: texts, and objects with its path or label. Keys that name
        one are left out with their values. Another text that names one is replaced. A label may be any word:
        it is a name only where a record has labels, and in warnings.
        """
        if isinstance(value, dict):
            named = {name for name in value if name in self._short or self.has_path(name)}
            return {name: self.scrub(item, name) for name, item in value.items() if name not in named}
        if isinstance(value, list) and key != "first_unreadable":  # the length of this list has a meaning
            return [self.scrub(item, key) for item in value if not self._is_about(item, key)]
        if isinstance(value, list):
            return [self.scrub(item) for item in value]
        return ERASED_TEXT if isinstance(value, str) and self.has_path(value) else value

    def _is_about(self, item: Any, key: str) -> bool:
        if isinstance(item, dict):
            return item.get("label") in self.labels or self.has_path(str(item.get("path", "")))
        if not isinstance(item, str):
            return False
        is_label = item in self.labels if key == "lost_labels" else key == "warnings" and self._has_label(item)
        return is_label or self.has_path(item)

    def _has_label(self, text: str) -> bool:
        return any(re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text) for label in self.labels)
