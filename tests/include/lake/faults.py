"""Faults at the operations on the lake's files: the process ends before or after one, or another process acts there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest


class Killed(BaseException):
    """Stands for the end of the process: nothing catches it."""


class Steps:
    """The moments before and after each operation; something happens at one of them.

    Attributes
    ----------
    seen : list of str
        The moments so far.
    """

    def __init__(self, number: int, event: Callable[[], object], look: Callable[[], object] = lambda: None) -> None:
        self.seen: list[str] = []
        self._number, self._event, self._look, self._inside = number, event, look, False

    def reach(self, name: str) -> None:
        if self._inside:  # the other process' own operations
            return
        self.seen.append(name)
        self._inside = True
        try:
            self._look()
            if len(self.seen) == self._number + 1:
                self._event()
        finally:
            self._inside = False


def kill() -> None:
    raise Killed


@contextmanager
def observed(monkeypatch: pytest.MonkeyPatch, module: ModuleType, names: Sequence[str], steps: Steps) -> Iterator[None]:
    """Report the moments before and after each call of a module's functions.

    The moment after a call is also the loss of the store's answer: the operation has taken effect, its caller never
    learns it.
    """

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            steps.reach(f"before {name} {arguments[0]}")
            result = original(*arguments, **options)
            steps.reach(f"after {name} {arguments[0]}")
            return result

        return call

    with monkeypatch.context() as patched:
        for name in names:
            patched.setattr(module, name, wrapped(name, getattr(module, name)))
        yield
