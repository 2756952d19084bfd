"""Working ahead: an iterable's items are made in a thread while their taker is busy with the ones before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class _End:
    """What follows the last item; with the error that ended the iterable, if one did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _Ahead(Generic[T]):
    def __init__(self, items: Iterator[T], depth: int) -> None:
        self._items = items
        self._made: queue.Queue[T | _End] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._make, name="prefetch", daemon=True)
        self._thread.start()

    def _make(self) -> None:
        end = _End()
        try:
            for item in self._items:
                self._made.put(item)
                if self._stopped.is_set():
                    break
        except BaseException as error:  # it is raised where the items are taken
            end = _End(error)
        finally:
            if close := getattr(self._items, "close", None):
                close()
        self._made.put(end)

    def __iter__(self) -> Iterator[T]:
        while not isinstance(item := self._made.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    def stop(self) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._made.get(timeout=0.01)  # makes room for what the thread is about to put
            except queue.Empty:
                continue


@contextmanager
def ahead(items: Iterator[T], depth: int) -> Iterator[Iterator[T]]:
    """Make items in a thread of its own, from now on, as many ahead of their taker as ``depth``.

    Parameters
    ----------
    items : iterator
        Used in the thread only, and closed in it.
    depth : int
        Items that are made and not yet taken, at most.

    Yields
    ------
    iterator
        The items in their order; an error that ends them is raised in their place. When the block is left, no more are
        made.
    """
    made = _Ahead(items, depth)
    try:
        yield iter(made)
    finally:
        made.stop()
