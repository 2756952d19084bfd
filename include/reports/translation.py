"""Texts of the report in English and French: both are in the page, which shows those of its language. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

NARROW_SPACE = "\u202f"
"""Between the digits of large numbers, and before some signs, in French."""

_FRENCH_DIGITS = {ord(","): NARROW_SPACE, ord("."): ",", ord("%"): f"{NARROW_SPACE}%"}


@dataclass(frozen=True)
class Translated:
    """A text in both languages, as HTML."""

    en: Markup
    fr: Markup

    def __html__(self) -> str:
        return str(Markup('<span lang="en">{}</span><span lang="fr">{}</span>').format(self.en, self.fr))


def say(en: str, fr: str, **values: Any) -> Translated:
    """Return a sentence in both languages.

    Parameters
    ----------
    en, fr : str
        The sentence as HTML, which only the templates write, with the names of values in braces.
    **values : object
        Values; every text is escaped, and a :class:`Translated` appears in the language of the sentence.
    """
    return Translated(
        Markup(en).format(**{name: _in(value, "en") for name, value in values.items()}),
        Markup(fr).format(**{name: _in(value, "fr") for name, value in values.items()}),
    )


def _in(value: Any, language: str) -> Markup:
    return getattr(value, language) if isinstance(value, Translated) else escape(value)


def number(value: float, digits: int = 0) -> Translated:
    """Return a number with separators of thousands."""
    return localize(f"{value:,.{digits}f}")


def share(value: float | None, digits: int = 1) -> Translated:
    """Return a share as a percentage; a dash for None."""
    if value is None:
        return Translated(Markup("—"), Markup("—"))
    return localize(f"{100 * value:,.{digits}f}%")


def localize(text: str) -> Translated:
    """Return a text of numbers, signs and percentages as it is written in each language."""
    return Translated(escape(text), escape(text.translate(_FRENCH_DIGITS)))


def plural(count: int, en: str, en_many: str, fr: str, fr_many: str) -> Translated:
    """Return a number with its noun; in French, 0 and 1 are singular."""
    shown = number(count)
    english, french = escape(en if count == 1 else en_many), escape(fr if count < 2 else fr_many)
    return Translated(Markup("{} {}").format(shown.en, english), Markup("{} {}").format(shown.fr, french))


def isolate(text: str) -> Markup:
    """Return a text from outside whose direction of writing does not affect the sentence around it."""
    return Markup("<bdi>{}</bdi>").format(text)


AMOUNTS = {"at least": "au moins", "at most": "au plus", " to ": " à ", "unknown": "inconnu"}
"""The words of :func:`include.cost.money.describe_amount`."""


def amount(text: str) -> Translated:
    """Return an amount of money, as :func:`include.cost.money.describe_amount` writes it, in both languages."""
    french = text.translate(_FRENCH_DIGITS)
    for english, word in AMOUNTS.items():
        french = french.replace(english, word)
    return Translated(escape(text), escape(french))
