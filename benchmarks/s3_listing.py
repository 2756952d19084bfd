"""A stand-in for an S3 bucket of very many objects, which can be listed but not read: keys are made up on the fly.

It answers ListObjectsV2, HeadObject and HeadBucket as S3 does (Amazon S3 API Reference), checks no signature, and is a
process of its own, so that its memory and its work are not the lister's.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any
from urllib.parse import parse_qs, quote, unquote
from xml.sax.saxutils import escape

from benchmarks.child_server import HOST, Answer, ChildServer, serve
from benchmarks.http_messages import HEAD_END, Head

KEYS_PER_PAGE = 1_000
"""The most that S3 lists at a time."""

LABELS = 50
SHARE_OF_ONE = 0.9
LAST_CHARACTER = chr(0x10FFFF)
MODIFIED = "2026-11-22T09:00:00.000Z"
SIZES = (1_500, 120_000)
"""Least and greatest size of an object, in bytes."""


class Keys:
    """The keys of a bucket in S3's order, that of their UTF-8 bytes, without holding them.

    One of the labels, in the middle of the order, has 90 % of the keys; the others share the rest.

    Parameters
    ----------
    count : int
        Keys in all, at least one a label.
    folder : str
        What they begin with, ``folder/<label>/<name>.jpg``.
    """

    def __init__(self, count: int, folder: str = "data") -> None:
        if count < LABELS:
            raise ValueError(f"{count} keys for {LABELS} labels: expected one or more for each")
        crowd = max(1, min(round(SHARE_OF_ONE * count), count - (LABELS - 1)))
        rest = count - crowd
        shares = [rest * n // (LABELS - 1) for n in range(LABELS)]
        counts = [end - begin for begin, end in pairwise(shares)]
        counts.insert(LABELS // 2, crowd)
        self._labels = [f"{folder}/Pêche & Cie {number:03}" for number in range(LABELS)]
        self._ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> str:
        """Return a key by its place in the order."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        label = bisect_left(self._ends, index + 1)
        first = self._ends[label - 1] if label else 0
        return f"{self._labels[label]}/{index - first:08}.jpg"

    def find(self, text: str) -> int:
        """Return the place of the first key that is not before a text."""
        return bisect_left(self, text)

    def size(self, index: int) -> int:
        """Return an object's size in bytes; sizes are spread evenly, neighbours are unlike."""
        least, greatest = SIZES
        return least + index * 7_919 % (greatest - least)


class ListingServer(ChildServer):
    """A running stand-in. Use it in a ``with`` statement, or call :meth:`stop`.

    Parameters
    ----------
    count : int
        Objects in it, under ``data/`` in any bucket.
    """

    def __init__(self, count: int) -> None:
        super().__init__("benchmarks.s3_listing", {"count": count})

    def requests(self) -> dict[str, int]:
        """Return how many requests have come, by method."""
        return dict(self.ask({}))


def list_page(keys: Keys, query: dict[str, str], bucket: str) -> str:
    """Return a page of a listing as S3 writes it.

    Parameters
    ----------
    query : dict of str to str
        The parameters of ListObjectsV2, decoded.
    """
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    show = quote if query.get("encoding-type") == "url" else escape
    most = min(int(query.get("max-keys", KEYS_PER_PAGE)), KEYS_PER_PAGE)
    token = query.get("continuation-token", "")
    # S3's tokens are opaque; this one is a place in the order.
    begin = int(token) if token else max(keys.find(prefix), keys.find(query.get("start-after", "") + "\0"))
    objects: list[str] = []
    folders: list[str] = []
    following = ""
    for key, index, is_folder in _entries(keys, begin, prefix, delimiter):
        if len(objects) + len(folders) == most:
            following = str(index)
            break
        if is_folder:
            folders.append(f"<CommonPrefixes><Prefix>{show(key)}</Prefix></CommonPrefixes>")
        else:
            objects.append(
                f"<Contents><Key>{show(key)}</Key><LastModified>{MODIFIED}</LastModified><ETag>&quot;{index:032x}&quot;"
                f"</ETag><Size>{keys.size(index)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
    shown = {
        "Name": bucket,
        "Prefix": show(prefix),
        "Delimiter": show(delimiter),
        "EncodingType": query.get("encoding-type", ""),
        "ContinuationToken": token,
        "NextContinuationToken": following,
    }
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        + "".join(f"<{name}>{value}</{name}>" for name, value in shown.items() if value)
        + f"<MaxKeys>{most}</MaxKeys><KeyCount>{len(objects) + len(folders)}</KeyCount>"
        f"<IsTruncated>{str(bool(following)).lower()}</IsTruncated>{''.join(objects)}{''.join(folders)}"
        "</ListBucketResult>"
    )


def _entries(keys: Keys, begin: int, prefix: str, delimiter: str) -> Iterator[tuple[str, int, bool]]:
    """Yield keys with their place, or what keys that a delimiter rolls up have in common, with the first place."""
    index = begin
    while index < len(keys) and (key := keys[index]).startswith(prefix):
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            yield key, index, False
            index += 1
        else:
            common = key[: cut + len(delimiter)]
            yield common, index, True
            index = keys.find(common + LAST_CHARACTER)


class Connection(asyncio.Protocol):
    """A client's connection. Requests have no bodies here."""

    transport: asyncio.Transport

    def __init__(self, keys: Keys, counts: dict[str, int]) -> None:
        self._keys = keys
        self._counts = counts
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._received += data
        while (end := self._received.find(HEAD_END)) >= 0:
            end += len(HEAD_END)
            head, self._received = Head(self._received[:end]), self._received[end:]
            self.transport.write(self._answer(head))

    def _answer(self, head: Head) -> bytes:
        method, target = head.words[0].decode(), head.words[1].decode()
        self._counts[method] = self._counts.get(method, 0) + 1
        path, _, parameters = target.partition("?")
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parameters, keep_blank_values=True).items()}
        if method == "HEAD":
            return self._describe(key)
        if method == "GET" and not key and query.get("list-type") == "2":
            return _message("200 OK", list_page(self._keys, query, bucket).encode())
        return _message("501 Not Implemented", b"<Error><Code>NotImplemented</Code></Error>")

    def _describe(self, key: str) -> bytes:
        if not key:
            return _message("200 OK", b"", "x-amz-bucket-region: eu-west-3\r\n")
        index = self._keys.find(key)
        if index == len(self._keys) or self._keys[index] != key:
            return _message("404 Not Found", b"")
        size = f"Content-Length: {self._keys.size(index)}\r\nLast-Modified: Sun, 22 Nov 2026 09:00:00 GMT\r\n"
        return f"HTTP/1.1 200 OK\r\n{size}\r\n".encode()


def _message(status: str, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


async def _start(settings: dict[str, Any]) -> tuple[asyncio.Server, Answer]:
    keys = Keys(settings["count"])
    counts: dict[str, int] = {}
    server = await asyncio.get_running_loop().create_server(lambda: Connection(keys, counts), HOST, 0)
    return server, lambda request: counts


if __name__ == "__main__":
    serve(_start)
