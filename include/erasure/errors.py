"""Why an erasure cannot be done. Light to import: the DAG files need it."""

from __future__ import annotations


class NothingFoundError(RuntimeError):
    """The request names no photo that has ever been in this lake, as far as is known."""


class NoStateError(RuntimeError):
    """The lake has no published state whose photos could be erased."""


class NothingLeftError(RuntimeError):
    """The published state would have no image with features."""


class IncompleteError(RuntimeError):
    """Something is found again after each deletion; a repetition may complete the erasure."""
