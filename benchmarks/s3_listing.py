"""A simulated S3 bucket with very many objects, which can be listed but not read. It generates the keys on demand.

It supports ListObjectsV2, HeadObject and HeadBucket (Amazon S3 API Reference) and checks no signatures. It runs in a
separate process, so that its memory and CPU time are not those of the client.
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
"""S3's limit of keys per page."""

LABELS = 50
LARGEST_LABEL_SHARE = 0.9
"""Share of the keys that have the largest label."""

LAST_CHARACTER = chr(0x10FFFF)
MODIFIED = "2026-11-22T09:00:00.000Z"
SIZES = (1_500, 120_000)
"""Smallest and largest size of an object, in bytes."""


class Keys:
    """The keys of a bucket, sorted by their UTF-8 bytes as in S3. They are computed, not stored.

    One label, in the middle of the order, has 90 % of the keys; the other labels share the rest.

    Parameters
    ----------
    count : int
        Number of keys; at least one per label.
    folder : str
        First part of the keys, which are ``folder/<label>/<name>.jpg``.
    """

    def __init__(self, count: int, folder: str = "data") -> None:
        if count < LABELS:
            raise ValueError(f"{count} keys for {LABELS} labels: expected one or more for each")
        largest = max(1, min(round(LARGEST_LABEL_SHARE * count), count - (LABELS - 1)))
        rest = count - largest
        shares = [rest * n // (LABELS - 1) for n in range(LABELS)]
        counts = [end - begin for begin, end in pairwise(shares)]
        counts.insert(LABELS // 2, largest)
        self._labels = [f"{folder}/Pêche & Cie {number:03}" for number in range(LABELS)]
        self._ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> str:
        """Return the key at an index of the order."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        label = bisect_left(self._ends, index + 1)
        first = self._ends[label - 1] if label else 0
        return f"{self._labels[label]}/{index - first:08}.jpg"

    def find(self, text: str) -> int:
        """Return the index of the first key that is equal to or after a text."""
        return bisect_left(self, text)

    def size(self, index: int) -> int:
        """Return an object's size in bytes. Sizes are uniformly distributed, and neighbours differ."""
        smallest, largest = SIZES
        return smallest + index * 7_919 % (largest - smallest)


class ListingServer(ChildServer):
    """A running server of the simulated bucket. Use it in a ``with`` statement, or call :meth:`stop`.

    Parameters
    ----------
    count : int
        Number of objects. Their keys begin with ``data/``; the name of the bucket is ignored.
    """

    def __init__(self, count: int) -> None:
        super().__init__("benchmarks.s3_listing", {"count": count})

    def requests(self) -> dict[str, int]:
        """Return the number of received requests by method."""
        return dict(self.ask({}))


def list_page(keys: Keys, query: dict[str, str], bucket: str) -> str:
    """Return a page of a listing in S3's format.

    Parameters
    ----------
    keys : Keys
        All keys of the bucket.
    query : dict of str to str
        The decoded parameters of ListObjectsV2.
    bucket : str
        Name of the bucket.
    """
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    show = quote if query.get("encoding-type") == "url" else escape
    most = min(int(query.get("max-keys", KEYS_PER_PAGE)), KEYS_PER_PAGE)
    token = query.get("continuation-token", "")
    # S3's continuation tokens are opaque; here, a token is the index of the next key.
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
    """Yield each key with its index, or each common prefix with the index of its first key; the flag marks prefixes."""
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
    """A connection of a client. Requests have no bodies."""

    transport: asyncio.Transport

    def __init__(self, keys: Keys, counts: dict[str, int]) -> None:
        self._keys = keys
        self._counts = counts
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Respond to each complete request."""
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
