"""Errors of the storage layer: Python's own, with the URI and the store's words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager


class StoreError(OSError):
    """The store did not answer as expected, although the request was repeated. A retry may help."""


class UnaddressableKeyError(StoreError):
    """A folder holds keys that object_store cannot address: with control characters, or with two slashes in a row."""


class TooLargeError(StoreError):
    """A file is larger than the store allows for an operation."""


@contextmanager
def naming(uri: str) -> Iterator[None]:
    """Raise the errors of obstore as Python's own, with the URI and the store's words."""
    from obstore.exceptions import BaseError, UnauthenticatedError

    try:
        yield
    except (FileNotFoundError, BaseError) as error:
        kind: type[OSError] = PermissionError if isinstance(error, UnauthenticatedError) else StoreError
        if status := _STATUS.search(str(error)):  # the error of a listing has no class of its own
            kind = _KINDS.get(status[1], kind)
        raise kind(f"{uri}: {reason(error)}") from error


_STATUS = re.compile(r"status code: (\d{3})")
_KINDS: dict[str, type[OSError]] = {"401": PermissionError, "403": PermissionError, "404": FileNotFoundError}
_MESSAGE = re.compile(r"<Message>(.*?)</Message>", re.DOTALL)


def reason(error: Exception) -> str:
    """Return S3's message, or else object_store's without the debugging output that follows it."""
    if found := _MESSAGE.search(str(error)):
        return found[1]
    return first_line(error)


def first_line(error: Exception) -> str:
    """Return an error's message without the debugging output that object_store puts below it."""
    return str(error).partition("\n\nDebug source")[0].replace("\n", " ")
