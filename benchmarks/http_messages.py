"""Framing of HTTP/1.1 messages: the end of a head and of a body (RFC 9112, sections 6 and 7)."""

from __future__ import annotations

from typing import Protocol

HEAD_END = b"\r\n\r\n"


class Head:
    """The first line and the headers of a message.

    Parameters
    ----------
    raw : bytes
        Head as received, including the blank line at its end.

    Attributes
    ----------
    raw : bytes
        As given.
    words : list of bytes
        The first line's three words: method, target and version, or version, status and its text.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        line_end = raw.index(b"\r\n")
        self.words = [*raw[:line_end].split(b" ", 2), b"", b""][:3]
        self._lowered = raw[line_end:].lower()
        self._headers = raw[line_end:]

    def get(self, name: bytes) -> bytes | None:
        """Return the value of a header, or None; pass the name in lower case."""
        begin = self._lowered.find(b"\r\n" + name + b":")
        if begin < 0:
            return None
        begin += len(name) + 3
        return self._headers[begin : self._headers.index(b"\r\n", begin)].strip()

    def has(self, part: bytes) -> bool:
        """Return whether a header's name begins with this prefix, given in lower case."""
        return b"\r\n" + part in self._lowered

    @property
    def ends_connection(self) -> bool:
        """Whether the connection is closed after this message."""
        return b"HTTP/1.0" in self.words or (self.get(b"connection") or b"").lower() == b"close"


class Body(Protocol):
    """The part of a message's body that has not been read yet."""

    @property
    def done(self) -> bool:
        """Whether the whole body has been read."""

    def take(self, data: bytes) -> int:
        """Return how many of the next bytes belong to the body, and count them as read."""


class FixedBody:
    """A body of known length in bytes, 0 for none."""

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def done(self) -> bool:
        """Whether the whole body has been read."""
        return self._left == 0

    def take(self, data: bytes) -> int:
        """Return how many of the next bytes belong to the body, and count them as read."""
        taken = min(len(data), self._left)
        self._left -= taken
        return taken


class ChunkedBody:
    """A chunked body, including chunk sizes and trailer (RFC 9112, section 7.1)."""

    def __init__(self) -> None:
        self.done = False
        self._line = b""
        self._left = 0
        self._in_trailer = False

    def take(self, data: bytes) -> int:
        """Return how many of the next bytes belong to the body, and count them as read.

        Raises
        ------
        ValueError
            If a chunk's size is not a hexadecimal number.
        """
        position = 0
        while position < len(data) and not self.done:
            if self._left:
                step = min(self._left, len(data) - position)
                self._left -= step
                position += step
                continue
            end = data.find(b"\n", position)
            if end < 0:
                self._line += data[position:]
                return len(data)
            self._end_line((self._line + data[position:end]).strip())
            position = end + 1
        return position

    def _end_line(self, line: bytes) -> None:
        self._line = b""
        if self._in_trailer:
            self.done = not line
            return
        size = int(line.partition(b";")[0], 16)
        self._left = size + len(b"\r\n") if size else 0
        self._in_trailer = size == 0


def request_body(head: Head) -> Body:
    """Return the body that follows a request's head."""
    return _framed_body(head) or FixedBody(0)


def response_body(head: Head, method: bytes) -> Body:
    """Return the body that follows a response's head; a response to HEAD has none, whatever its Content-Length.

    Raises
    ------
    ValueError
        If only the end of the connection would end the body; S3 stores do not send such responses.
    """
    if method == b"HEAD" or head.words[1] in (b"204", b"304") or head.words[1].startswith(b"1"):
        return FixedBody(0)
    body = _framed_body(head)
    if body is None:
        raise ValueError(f"a response has neither a length nor chunks: {head.raw!r}")
    return body


def _framed_body(head: Head) -> Body | None:
    if b"chunked" in (head.get(b"transfer-encoding") or b"").lower():
        return ChunkedBody()
    length = head.get(b"content-length")
    return None if length is None else FixedBody(int(length))
