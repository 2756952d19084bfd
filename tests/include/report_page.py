"""A report's page as a reader of one language sees it."""

from __future__ import annotations

import html.parser
import json
from typing import Any, Literal

VOID = frozenset({"meta", "img", "br", "link", "input"})


class Page(html.parser.HTMLParser):
    """The tags, attributes, tables and data of a page, and its text in one language, without scripts and styles."""

    def __init__(self, source: str, language: Literal["en", "fr"] = "en") -> None:
        super().__init__()
        self._hidden_language = "fr" if language == "en" else "en"
        self._open: list[tuple[str, bool]] = []
        self.tags: list[str] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.languages: list[str] = []
        """The language of every translated text, in order."""
        self.contents: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(source)
        self.close()

    @property
    def data(self) -> dict[str, Any]:
        """The data that the page draws."""
        return dict(json.loads(self.contents["script"][0]))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        language = dict(attrs).get("lang")
        if tag == "span" and language:
            self.languages.append(language)
        if tag not in VOID:
            self._open.append((tag, tag == "span" and language == self._hidden_language))
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
        elif tag in self.contents:
            self.contents[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1][0] == tag, f"</{tag}> closes <{self._open[-1][0]}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in self.contents:
            self.contents[self._open[-1][0]][-1] += data
        elif not any(is_hidden for _, is_hidden in self._open):
            self.text += data
            if self.rows and self.rows[-1] and {"td", "th"} & {tag for tag, _ in self._open}:
                self.rows[-1][-1] += data.strip()

    def row(self, first: str) -> list[str]:
        """The cells of the only row whose first cell starts so, without that cell."""
        [found] = [row[1:] for row in self.rows if row and row[0].startswith(first)]
        return found
