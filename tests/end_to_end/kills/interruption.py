"""Interruptions of a process at its writes: every put, copy and delete in a folder or on S3 is a numbered operation."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import obstore
from botocore.client import BaseClient

Moment = Literal["before", "after", "lost"]

TOKENS = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}(-[0-9a-f]{8})?(-\d{5})?|[0-9a-f]{32}|part-\d{5}(?=[.-])|^\d{6}-")
"""The parts of a name that differ from one attempt to the next."""


@dataclass
class Interruption:
    """Counts the operations of this process, and interrupts one of them.

    Attributes
    ----------
    root : str
        URI of the lake; other files are not counted.
    number : int or None
        The operation to interrupt; None only counts.
    moment : str
        ``before`` and ``after`` kill this process; ``lost`` performs the operation and raises what obstore raises when
        the answer of the store is lost.
    operations : list of str
        The operations so far, with names that do not depend on the attempt.
    """

    root: str
    number: int | None
    moment: Moment
    operations: list[str] = field(default_factory=list)

    def perform(self, name: str, operation: Callable[[], Any]) -> Any:
        """Perform an operation, unless it is the one to interrupt."""
        is_target = len(self.operations) == self.number
        self.operations.append(name)
        if is_target and self.moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            result = operation()
        finally:  # deleting a temporary file that has been renamed raises FileNotFoundError
            if is_target and self.moment == "after":
                os.kill(os.getpid(), signal.SIGKILL)
        if is_target and self.moment == "lost":
            raise obstore.exceptions.GenericError("the answer is lost")
        return result

    def name(self, kind: str, path: str) -> str:
        """Return the name of an operation on a path of the lake."""
        return f"{kind} {TOKENS.sub('*', path)}"

    def install(self) -> None:
        """Replace the functions of this process that change files."""
        if self.root.startswith("s3://"):
            self._install_on_s3()
        else:
            self._install_in_folder(self.root.removeprefix("file://"))

    def _install_in_folder(self, root: str) -> None:
        for kind, module_name in (("put", "replace"), ("create", "link"), ("delete", "unlink"), ("delete", "rmdir")):
            original = getattr(os, module_name)

            def wrapped(*args: Any, _kind: str = kind, _original: Any = original, **options: Any) -> Any:
                target = os.fsdecode(args[1] if len(args) > 1 else args[0])
                # shutil.rmtree deletes names relative to an open folder, all of which are in the lake.
                if "dir_fd" not in options and not target.startswith(root):
                    return _original(*args, **options)
                name = self.name(_kind, target.removeprefix(f"{root}/"))
                return self.perform(name, lambda: _original(*args, **options))

            setattr(os, module_name, wrapped)

    def _install_on_s3(self) -> None:
        put, copy, delete = obstore.put, obstore.copy, obstore.delete

        def wrapped_put(store: Any, path: str, *args: Any, **options: Any) -> Any:
            return self.perform(self.name("put", path), lambda: put(store, path, *args, **options))

        def wrapped_copy(store: Any, source: str, target: str, **options: Any) -> Any:
            return self.perform(self.name("copy", target), lambda: copy(store, source, target, **options))

        def wrapped_delete(store: Any, paths: str | list[str]) -> Any:
            for path in [paths] if isinstance(paths, str) else paths:
                self.perform(self.name("delete", path), lambda path=path: delete(store, path))  # type: ignore[misc]

        # boto3 deletes versions, a thousand in a request at most.
        call = BaseClient._make_api_call

        def wrapped_call(client: Any, operation: str, arguments: dict[str, Any]) -> Any:
            if operation != "DeleteObjects":
                return call(client, operation, arguments)
            return self.perform("delete versions", lambda: call(client, operation, arguments))

        BaseClient._make_api_call = wrapped_call
        obstore.put, obstore.copy, obstore.delete = wrapped_put, wrapped_copy, wrapped_delete  # type: ignore[assignment]
