"""Decoding apart from the worker: a child process that is reused, and replaced when a file kills it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

import numpy as np
import PIL

import spark_jobs
from spark_jobs.images import decode_child
from spark_jobs.images.decode_child import OUT_OF_MEMORY_EXIT, PIXELS, READY, REQUEST, RESPONSE
from spark_jobs.images.decoding import SIDE, Pixels
from spark_jobs.images.rejects import Reject

if TYPE_CHECKING:
    from spark_jobs.images.reading import Data

PROGRAM: Final = ("-m", decode_child.__name__)
PIPE_BYTES: Final = 1024 * 1024
"""Linux's limit for pipes of users without privileges: a whole picture passes without a change of process."""


@dataclass(frozen=True)
class Limits:
    """What decoding one file may take, and how it is done.

    Attributes
    ----------
    max_pixels : int
        Width x height of the largest image that is decoded.
    apply_orientation : bool
        Whether EXIF orientation is applied.
    memory_bytes : int
        Address space of the child, Python's own 100 MB included.
    seconds : float
        Wall-clock time that one file may take.
    """

    max_pixels: int
    apply_orientation: bool = False
    memory_bytes: int = 1024 * 1024 * 1024
    seconds: float = 60.0


class Decoder:
    """A child process that decodes one file at a time; it starts with the first and is reused for all that follow.

    Parameters
    ----------
    limits : Limits
    program : sequence of str
        What the child runs: the interpreter's arguments.
    """

    def __init__(self, limits: Limits, program: Sequence[str] = PROGRAM) -> None:
        self._limits = limits
        self._program = program
        self._child: subprocess.Popen[bytes] | None = None
        self._is_fresh = False

    def decode(self, data: Data) -> Pixels | Reject:
        """Decode a file.

        The result does not depend on earlier files. If a child ends during a file, however it ends, the file goes to a
        fresh child. Only a file that also ends a child which has decoded nothing before is rejected for it.

        Parameters
        ----------
        data : bytes-like
            The file's content.

        Returns
        -------
        numpy.ndarray of shape (224, 224, 3), uint8, or Reject
            What :func:`spark_jobs.images.decoding.decode` returned; ``decoder_crashed`` when the file killed the child.

        Raises
        ------
        RuntimeError
            When a child cannot start; the message has its standard error.
        """
        while True:
            child = self._child or self._start()
            was_fresh, self._is_fresh = self._is_fresh, False
            try:
                return _exchange(child, data)
            except (BrokenPipeError, EOFError):
                code = self._end(child)
            if was_fresh:
                return Reject("decoder_crashed", self._cause(code))

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.kill()
            self._end(self._child)

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, *self._program, json.dumps(asdict(self._limits))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(_import_roots()), "PYTHONSAFEPATH": "1"},
        )
        stdin, stdout = _pipes(child)
        with cast("IO[bytes]", child.stderr) as errors:
            if stdout.read(len(READY)) != READY:
                text = errors.read().decode(errors="replace").strip()
                code = self._end(child)
                raise RuntimeError(f"the process that decodes images cannot start (exit code {code}): {text}")
        for pipe in (stdin, stdout):
            with suppress(OSError):  # a speed-up that a machine with many pipes may refuse
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._child, self._is_fresh = child, True
        return child

    def _end(self, child: subprocess.Popen[bytes]) -> int:
        """Wait for a child that is ending, and return its exit code."""
        self._child = None
        for stream in _pipes(child):
            with suppress(BrokenPipeError):  # of what it did not take
                stream.close()
        return child.wait()

    def _cause(self, code: int) -> str:
        if code == -signal.SIGALRM:
            return f"decoding took more than {self._limits.seconds:g} s"
        if code == OUT_OF_MEMORY_EXIT:
            return f"decoding takes more memory than the limit of {self._limits.memory_bytes // 2**20} MiB"
        if code < 0:
            return f"decoding ended by {signal.Signals(-code).name}"
        return f"decoding ended with exit code {code}"


def _exchange(child: subprocess.Popen[bytes], data: Data) -> Pixels | Reject:
    """Send a file and wait for the answer.

    Raises
    ------
    BrokenPipeError, EOFError
        When the child died.
    """
    requests, answers = _pipes(child)
    requests.write(REQUEST.pack(len(data)))
    requests.write(data)
    requests.flush()
    header = answers.read(RESPONSE.size)
    if len(header) < RESPONSE.size:
        raise EOFError
    kind, length = RESPONSE.unpack(header)
    if kind == PIXELS:
        pixels = np.empty((SIDE, SIDE, 3), np.uint8)
        if answers.readinto(pixels.data.cast("B")) < length:
            raise EOFError
        return pixels
    answer = answers.read(length)
    if len(answer) < length:
        raise EOFError
    return Reject(*json.loads(answer))


def _pipes(child: subprocess.Popen[bytes]) -> tuple[BufferedWriter, BufferedReader]:
    """Return the streams of a child's requests and answers, which Popen has as streams of any kind, or none."""
    return cast("BufferedWriter", child.stdin), cast("BufferedReader", child.stdout)


def _import_roots() -> list[str]:
    """Return where the child finds what it imports, whatever the worker's own path is.

    On a cluster that begins with archives, which a new interpreter would take half a second to look through.
    """
    files = (spark_jobs.__file__, PIL.__file__, np.__file__)
    return list(dict.fromkeys(str(Path(file).parent.parent) for file in files if file))


_decoders: dict[tuple[Limits, tuple[str, ...]], Decoder] = {}


def shared(limits: Limits, program: Sequence[str] = PROGRAM) -> Decoder:
    """Return this process's decoder with some limits, made when the process first asks for it.

    Spark reuses Python workers, so that one child serves every task that its worker runs; it ends with the worker.
    """
    key = (limits, tuple(program))
    if key not in _decoders:
        for decoder in _decoders.values():  # one at a time: an idle child would only hold memory
            decoder.close()
        _decoders.clear()
        _decoders[key] = Decoder(limits, program)
    return _decoders[key]
