"""A decode child whose decoder has bugs: some files' first bytes make it do what a hostile file may make a real one do.

Run as :class:`spark_jobs.images.decoder.Decoder` runs its child; all other files are decoded as ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from spark_jobs.images import decode_child, decoding
from spark_jobs.images.rejects import Reject

SEGFAULT = b"DEADLY segfault"
ENDLESS = b"DEADLY endless"
MEMORY = b"DEADLY memory"
KILLED = b"DEADLY killed"
EXIT = b"DEADLY exit"
DELAYED = b"DEADLY delayed"
"""Decodes, but leaves behind what kills the child with the next file."""

SLOWING = b"DEADLY slowing"
"""Decodes, but the next file never ends."""
LEAK = b"DEADLY leak"
"""Decodes, and keeps 400 MiB."""
FRAGILE = b"DEADLY fragile"
"""A good file. If 300 MiB are missing, its library reports damage instead of a lack of memory."""
GOOD = b"DEADLY good"
"""A good file that takes 300 MiB."""

DEADLY = (SEGFAULT, ENDLESS, MEMORY, KILLED, EXIT)

PROGRAM = (str(Path(__file__).resolve()),)


class Decoder:
    def __init__(self) -> None:
        self._doomed = self._endless = False
        self._leaked: list[bytearray] = []

    def __call__(self, data: bytes, **limits: Any) -> Any:
        if data == SEGFAULT or self._doomed:
            ctypes.string_at(0)
        elif data == ENDLESS or self._endless:
            # C code that never gives Python the interpreter's lock back: only the kernel can end it.
            ctypes.PyDLL(None).sleep(10**6)
        elif data == MEMORY:
            return decoding.Image.new("RGB", (60_000, 60_000))
        elif data == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        elif data == EXIT:
            os._exit(3)
        elif data == DELAYED:
            self._doomed = True
        elif data == SLOWING:
            self._endless = True
        elif data == LEAK:
            self._leaked.append(bytearray(400 * 2**20))
        elif data in (FRAGILE, GOOD):
            try:
                bytearray(300 * 2**20)
            except MemoryError:
                if data == GOOD:
                    raise
                return Reject("corrupt", "a marker is missing")
            return decoding.Image.new("RGB", (decoding.SIDE, decoding.SIDE), "red")
        return decoding.decode_picture(data, **limits)


if __name__ == "__main__":
    raise SystemExit(decode_child.main(Decoder()))
