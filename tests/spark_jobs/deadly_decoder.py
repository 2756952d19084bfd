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

SEGFAULT = b"DEADLY segfault"
ENDLESS = b"DEADLY endless"
MEMORY = b"DEADLY memory"
KILLED = b"DEADLY killed"
EXIT = b"DEADLY exit"
DELAYED = b"DEADLY delayed"
"""Decodes, but leaves behind what kills the child with the next file."""

DEADLY = (SEGFAULT, ENDLESS, MEMORY, KILLED, EXIT)

PROGRAM = (str(Path(__file__).resolve()),)


class Decoder:
    def __init__(self) -> None:
        self._doomed = False

    def __call__(self, data: bytes, **limits: Any) -> Any:
        if data == SEGFAULT or self._doomed:
            ctypes.string_at(0)
        elif data == ENDLESS:
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
        return decoding.decode_picture(data, **limits)


if __name__ == "__main__":
    raise SystemExit(decode_child.main(Decoder()))
