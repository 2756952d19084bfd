"""The terminal of the commands: text is shown as it is, and nothing in it is interpreted."""

from __future__ import annotations

import unicodedata
from typing import IO, Any

from rich.console import Console
from rich.text import Text

INVISIBLE = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the order in which a terminal shows others (Unicode Standard Annex #9, Bidi_Control)."""


def visible(text: str) -> str:
    r"""Return a text with an escape, such as ``\x1b``, instead of each character that controls a terminal.

    The names of files and labels may contain any character. Line breaks and tabs stay.
    """
    return "".join(_escape(each) if _controls(each) else each for each in text)


def _controls(character: str) -> bool:
    return character in INVISIBLE or (unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t")


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


class PlainTextConsole(Console):
    """A console of rich that shows texts as they are: no markup, no emoji codes, no highlighting, no line breaks.

    ``NO_COLOR``, ``TERM=dumb``, ``TTY_INTERACTIVE`` and ``COLUMNS`` are respected, as rich defines them.

    Parameters
    ----------
    file : file, optional
        Where the text goes; standard output by default.
    options
        Further options of :class:`rich.console.Console`.
    """

    def __init__(self, file: IO[str] | None = None, **options: Any) -> None:
        super().__init__(file=file, markup=False, emoji=False, highlight=False, soft_wrap=True, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text to print; see :func:`visible`."""
        return super().render_str(visible(text), **options)
