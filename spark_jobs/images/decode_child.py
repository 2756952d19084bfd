"""The child process of :class:`spark_jobs.images.decoder.Decoder`: ``python -m spark_jobs.images.decode_child``.

Files come on standard input and leave as pixels or as a reject on standard output, one at a time. Decoders are C code
that reads hostile bytes: what crashes, takes too much memory or does not end takes this process down, and nothing else.
It imports Pillow and pillow-heif only, so that a new child is ready in a tenth of a second.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import warnings
from collections.abc import Callable
from typing import Any, BinaryIO, Final, TypeAlias

from spark_jobs.images import decoding
from spark_jobs.images.rejects import Reject

READY: Final = b"R"
"""First byte that the child writes."""

REQUEST: Final = struct.Struct("<Q")
"""Before a file: its length in bytes."""

RESPONSE: Final = struct.Struct("<cI")
"""Before an answer: its kind, and the length in bytes of what follows."""

PIXELS: Final = b"P"
REJECT: Final = b"X"

OUT_OF_MEMORY_EXIT: Final = 12
"""Exit code of a child that may not have the memory that a file takes (ENOMEM's number)."""

LEAK_EXIT: Final = 13
"""Exit code of a child that would reject a file while memory of earlier files is missing: the reason may be wrong."""

LEAK_SHARE: Final = 1 / 16
"""Share of the memory limit. Earlier files may keep so much: glibc keeps up to 64 MiB of freed memory (mallopt(3))."""

Decode: TypeAlias = "Callable[..., Any]"


def main(decode: Decode = decoding.decode_picture) -> int:
    """Decode until standard input ends; the one argument is a JSON object of the limits.

    Parameters
    ----------
    decode : callable
        As :func:`spark_jobs.images.decoding.decode_picture`.
    """
    limits: dict[str, Any] = json.loads(sys.argv[1])
    requests, responses = _take_streams()
    # What a broken file makes a library print or dump would fill logs and disks, file after file.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory_bytes"], limits["memory_bytes"]))
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end ends standard input
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which kills, even within C code that never returns
    responses.write(READY)
    responses.flush()
    allowed = _address_space() + limits["memory_bytes"] * LEAK_SHARE
    try:
        while header := requests.read(REQUEST.size):
            lacks_memory = _address_space() > allowed
            data = requests.read(*REQUEST.unpack(header))
            signal.setitimer(signal.ITIMER_REAL, limits["seconds"])
            outcome = decode(data, max_pixels=limits["max_pixels"], apply_orientation=limits["apply_orientation"])
            if lacks_memory and isinstance(outcome, Reject):
                os._exit(LEAK_EXIT)
            answer = _encode(outcome)
            signal.setitimer(signal.ITIMER_REAL, 0)
            responses.write(answer[0])
            responses.write(answer[1])
            responses.flush()
    except MemoryError:
        os._exit(OUT_OF_MEMORY_EXIT)  # at once: what is left of the memory may not be enough to tidy up
    except BrokenPipeError:
        os._exit(0)  # the parent has gone
    return 0


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams of requests and answers, and let nothing else write to the one or to the parent's log."""
    requests, responses = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)
    return requests, responses


def _address_space() -> int:
    """Return the size of this process's address space in bytes (proc(5)); 0 where the system does not report it."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - pathlib would double the import time
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _encode(outcome: Any) -> tuple[bytes, bytes]:
    if isinstance(outcome, Reject):
        reject = json.dumps([outcome.reason, outcome.detail]).encode()
        return RESPONSE.pack(REJECT, len(reject)), reject
    pixels: bytes = outcome.tobytes()
    return RESPONSE.pack(PIXELS, len(pixels)), pixels


if __name__ == "__main__":
    raise SystemExit(main())
