"""The process of an S3 proxy, which :class:`benchmarks.s3_proxy.S3Proxy` starts."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from time import process_time
from typing import Any
from urllib.parse import unquote, urlsplit

from benchmarks.child_server import HOST, Answer, serve
from benchmarks.http_messages import HEAD_END, Body, Head, request_body, response_body
from benchmarks.s3_faults import ERRORS, RESET, RESET_AFTER, RESET_IN_BODY, Faults, Rule, error_response

BACKLOG = 2048
HELD_BYTES = 256 * 1024
"""Maximum number of bytes of a response that the proxy holds until it is due."""

RESET_SECONDS = 0.05
"""Time between half of a body and the reset, in which the client reads that half."""

OBJECT_PARAMETERS = ("x-id", "versionid", "partnumber", "x-amz-")
"""Prefixes of the parameters of a GET for an object's bytes. Other parameters request something else, such as tags."""


@dataclass(frozen=True)
class Reply:
    """A complete HTTP response."""

    head: bytes
    body: bytes


class Ledger:
    """Running counts; :class:`benchmarks.s3_proxy.Counts` documents them."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._open: dict[Exchange, int] = {}
        self._open_bytes = 0
        self._most_open = 0
        self._most_bytes = 0
        self._cpu_before = process_time()
        self.faults = 0
        self.passed_on = 0
        self.bytes_sent = 0

    def begin(self, exchange: Exchange) -> None:
        """Count a received request."""
        self._requests[exchange.method, exchange.key] += 1
        if exchange.is_object_get:
            self._open[exchange] = 0
            self._most_open = max(self._most_open, len(self._open))

    def expect(self, exchange: Exchange, size: int) -> None:
        """Count the bytes that a request asks for."""
        if exchange in self._open:
            self._open[exchange] = size
            self._open_bytes += size
            self._most_bytes = max(self._most_bytes, self._open_bytes)

    def send(self, exchange: Exchange, size: int) -> None:
        """Count bytes of a response body that are sent to the client."""
        if exchange.is_object_get:
            self.bytes_sent += size

    def end(self, exchange: Exchange) -> None:
        """Count the end of a request, successful or not."""
        self._open_bytes -= self._open.pop(exchange, 0)

    def as_record(self) -> dict[str, Any]:
        """Return the counts as a JSON-serializable dict."""
        return {
            "requests": [[method, key, number] for (method, key), number in self._requests.items()],
            "faults": self.faults,
            "passed_on": self.passed_on,
            "bytes_sent": self.bytes_sent,
            "requests_in_flight": self._most_open,
            "bytes_in_flight": self._most_bytes,
            "cpu_seconds": process_time() - self._cpu_before,
        }


class Proxy:
    """The state that all connections share."""

    def __init__(self, settings: dict[str, Any]) -> None:
        upstream = urlsplit(settings["upstream"])
        self._upstream = (upstream.hostname, upstream.port or 80)
        self._idle: list[UpstreamConnection] = []
        self._caches = bool(settings["cache"])
        self._cached: defaultdict[str, dict[str, Reply]] = defaultdict(dict)
        self.delay_seconds = float(settings["delay"])
        self.faults = _faults(settings["rules"])
        self.ledger = Ledger()

    def answer(self, request: dict[str, Any]) -> Any:
        """Handle a command of the parent process."""
        match request["do"]:
            case "counts":
                return self.ledger.as_record()
            case "reset_counts":
                self.ledger = Ledger()
            case "set_delay":
                self.delay_seconds = float(request["seconds"])
            case "set_rules":
                self.faults = _faults(request["rules"])
            case other:
                raise ValueError(f"the proxy does not know {other!r}")
        return None

    def recall(self, exchange: Exchange) -> Reply | None:
        """Return the cached response to a request; delete the cached responses that the request may change."""
        if exchange.method not in ("GET", "HEAD"):
            if exchange.key:
                self._cached.pop(exchange.path, None)
            else:  # such as a request to delete many keys
                self._cached.clear()
        elif self.may_keep(exchange):
            return self._cached[exchange.path].get(exchange.variant)
        return None

    def may_keep(self, exchange: Exchange) -> bool:
        """Return whether the response to a request may be cached."""
        return self._caches and exchange.is_object_get and not exchange.head.has(b"if-")

    def keep(self, exchange: Exchange, reply: Reply) -> None:
        """Cache a response."""
        self._cached[exchange.path][exchange.variant] = reply

    async def connect(self) -> UpstreamConnection:
        """Return an idle connection to the store, or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection
        host, port = self._upstream
        _, connection = await asyncio.get_running_loop().create_connection(UpstreamConnection, host, port)
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Make a connection available for another request."""
        connection.exchange = None
        connection.transport.resume_reading()
        self._idle.append(connection)


def _faults(records: list[dict[str, Any]]) -> Faults:
    return Faults([Rule(**{**record, "methods": tuple(record["methods"])}) for record in records])


class UpstreamConnection(asyncio.Protocol):
    """A connection to the store; it serves one exchange at a time."""

    transport: asyncio.Transport
    exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Pass on a part of a response."""
        if self.exchange is None:  # no request is open
            self.transport.abort()
        else:
            self.exchange.take_answer(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Notify the exchange, if there is one."""
        if self.exchange is not None:
            self.exchange.lose_upstream()

    def pause_writing(self) -> None:
        """Pause reading the request body while the store's buffer is full."""
        if self.exchange is not None:
            self.exchange.client.transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading."""
        if self.exchange is not None:
            self.exchange.client.transport.resume_reading()


class ClientConnection(asyncio.Protocol):
    """A connection of a client; it serves exchanges one after another."""

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._received = b""
        self._exchange: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport; ``pause_writing`` is called as soon as the kernel's send buffer is full."""
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request."""
        self._received += data
        self.advance()

    def advance(self) -> None:
        """Start the next exchange, or continue the current one, with the received bytes."""
        if self._exchange is not None:
            if self._received:
                self._received = self._received[self._exchange.take_request(self._received) :]
            return
        end = self._received.find(HEAD_END)
        if end < 0:
            return
        end += len(HEAD_END)
        head, self._received = Head(self._received[:end]), self._received[end:]
        self._exchange = Exchange(self._proxy, self, head)
        self._exchange.begin()

    def end_exchange(self, *, close: bool) -> None:
        """Continue with the next request, or close the connection."""
        self._exchange = None
        if close:
            self.transport.close()
        else:
            self.advance()

    def reset(self) -> None:
        """Close the connection with a TCP reset: SO_LINGER with a time of zero, socket(7)."""
        if not self.transport.is_closing():
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """End the exchange."""
        if self._exchange is not None:
            self._exchange.lose_client()

    def pause_writing(self) -> None:
        """Pause reading the response while the client's buffer is full."""
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        """Resume reading."""
        if self._exchange is not None:
            self._exchange.resume()


class Exchange:
    """A request and its response."""

    def __init__(self, proxy: Proxy, client: ClientConnection, head: Head) -> None:
        target, _, self._query = head.words[1].decode(errors="replace").partition("?")
        self.client = client
        self.head = head
        self.method = head.words[0].decode("latin-1")
        self.path = unquote(target)
        self.key = self.path.removeprefix("/").partition("/")[2]
        parameters = [part for part in self._query.lower().split("&") if part]
        for_bytes = all(part.startswith(OBJECT_PARAMETERS) for part in parameters)
        self.is_object_get = self.method == "GET" and bool(self.key) and for_bytes
        self._proxy = proxy
        self._ledger = proxy.ledger
        self._request_body = request_body(head)
        self._upstream: UpstreamConnection | None = None
        self._answer = b""
        self._answer_head: Head | None = None
        self._answer_body: Body | None = None
        self._kept: list[bytes] | None = None
        """Body of a response that is to be cached; None if it is not."""
        self._held: list[bytes] | None = []
        """Bytes of the response received before it is due; None once it is due."""
        self._left_until_reset: int | None = None
        """Bytes of the body that are sent before the connection is reset; None for no reset."""
        self._resets_in_body = False
        self._loses_answer = False
        self._paused = False
        self._ended = False

    @property
    def variant(self) -> str:
        """Query and range of a GET: the cached responses of an object differ by them."""
        return f"{self._query} {self.head.get(b'range')!r}"

    def begin(self) -> None:
        """Respond to the request, or forward it to the store."""
        self._ledger.begin(self)
        delay = self._proxy.delay_seconds if self.method == "GET" else 0.0
        fault = self._proxy.faults.choose(self.method, self.key)
        self._ledger.faults += fault is not None
        if fault in ERRORS:
            # An unread request body would be parsed as the next request.
            head, body = error_response(fault, method=self.method, key=self.key, close=not self._request_body.done)
            self._after(delay, lambda: self._reply(Reply(head, body)))
        elif fault == RESET:
            self._after(delay, self.client.reset)
        else:
            self._resets_in_body = fault == RESET_IN_BODY
            self._loses_answer = fault == RESET_AFTER
            self._fetch(delay)

    def _after(self, delay: float, act: Any) -> None:
        if delay:
            asyncio.get_running_loop().call_later(delay, act)
        else:
            act()

    def _fetch(self, delay: float) -> None:
        cached = self._proxy.recall(self)
        if cached is not None and not self._loses_answer:
            self._ledger.expect(self, len(cached.body))
            self._after(delay, lambda: self._reply(cached))
            return
        self._ledger.passed_on += 1
        self._kept = [] if self._proxy.may_keep(self) else None
        if not self._loses_answer:  # nothing of the response is due
            self._after(delay, self._open)
        asyncio.get_running_loop().create_task(self._proxy.connect()).add_done_callback(self._ask_upstream)

    def _ask_upstream(self, connecting: asyncio.Task[UpstreamConnection]) -> None:
        if connecting.exception() is not None:
            self.client.transport.abort()
        elif self._ended:  # the client has disconnected
            self._proxy.release(connecting.result())
        else:
            self._upstream = connecting.result()
            self._upstream.exchange = self
            self._upstream.transport.write(self.head.raw)
            self.client.advance()

    def take_request(self, data: bytes) -> int:
        """Pass on a part of the request body once the store is connected; return the number of bytes consumed."""
        if self._upstream is None or self._request_body.done:
            return 0
        taken = self._request_body.take(data)
        self._upstream.transport.write(data[:taken])
        return taken

    def take_answer(self, data: bytes) -> None:
        """Receive a part of the store's response, and pass it on when it is due."""
        if self._answer_head is None:
            data = self._take_head(data)
        if self._answer_body is None:
            return
        taken = self._answer_body.take(data)
        self._take_body(data[:taken])
        if self._answer_body.done:
            self._end_answer()

    def _take_head(self, data: bytes) -> bytes:
        """Parse the response head once it is complete; return the bytes that follow it."""
        self._answer += data
        while (end := self._answer.find(HEAD_END)) >= 0:
            end += len(HEAD_END)
            head, self._answer = Head(self._answer[:end]), self._answer[end:]
            if head.words[1].startswith(b"1"):  # 100 Continue: the final response follows
                self.client.transport.write(head.raw)
                continue
            self._begin_answer(head)
            return self._answer
        return b""

    def _begin_answer(self, head: Head) -> None:
        self._answer_head = head
        self._answer_body = response_body(head, self.head.words[0])
        size = int(head.get(b"content-length") or 0)
        if head.words[1] in (b"200", b"206"):
            self._ledger.expect(self, size)
        else:
            self._kept = None
        if self._resets_in_body:
            self._left_until_reset = size // 2
        if self._held is None:
            self.client.transport.write(head.raw)

    def _take_body(self, data: bytes) -> None:
        if self._loses_answer:
            return
        if self._kept is not None:
            self._kept.append(data)
        if self._held is None:
            self._send(data)
            return
        self._held.append(data)
        if self._upstream is not None and sum(map(len, self._held)) > HELD_BYTES:
            self._upstream.transport.pause_reading()

    def _open(self) -> None:
        """Send the response from now on: it is due."""
        if self._ended:
            return
        held, self._held = self._held or [], None
        if self._answer_head is not None:
            self.client.transport.write(self._answer_head.raw)
        for data in held:
            self._send(data)
        if self._upstream is not None and not self._paused:
            self._upstream.transport.resume_reading()
        self._end_when_sent()

    def _reply(self, reply: Reply) -> None:
        """Respond without the store: with a cached response or a fault."""
        if self._ended:
            return
        self._held = None
        self._answer_head = Head(reply.head)
        self._answer_body = response_body(self._answer_head, b"HEAD")  # the response is complete
        if self._resets_in_body:
            self._left_until_reset = len(reply.body) // 2
            self.client.transport.write(reply.head)
            self._send(reply.body)
        else:  # one write is one system call
            self.client.transport.write(reply.head + reply.body)
            self._ledger.send(self, len(reply.body))
        self._end_when_sent()

    def _send(self, data: bytes) -> None:
        """Send a part of the response body, up to the limit of a reset."""
        if self._ended:
            return
        if self._left_until_reset is not None:
            data = data[: self._left_until_reset]
            self._left_until_reset -= len(data)
        self.client.transport.write(data)
        self._ledger.send(self, len(data))
        if self._left_until_reset == 0:
            self._end()
            self._drop_upstream()
            asyncio.get_running_loop().call_later(RESET_SECONDS, self.client.reset)

    def _end_answer(self) -> None:
        """Cache the response if allowed, release the store's connection, and lose the response if this is the fault."""
        if self._kept is not None and self._answer_head is not None and not self._loses_answer:
            self._proxy.keep(self, Reply(self._answer_head.raw, b"".join(self._kept)))
        if self._upstream is not None:
            if self._closes():
                self._drop_upstream()
            else:
                self._proxy.release(self._upstream)
                self._upstream = None
        if self._loses_answer:
            self._end()
            self.client.reset()
        self._end_when_sent()

    def _closes(self) -> bool:
        """Return whether the connection cannot serve another request."""
        ended_by_answer = self._answer_head is not None and self._answer_head.ends_connection
        return ended_by_answer or self.head.ends_connection or not self._request_body.done

    def _end_when_sent(self) -> None:
        all_sent = self._held is None and self._answer_body is not None and self._answer_body.done
        if all_sent and not self._ended and not self._paused:
            self._end()
            self.client.end_exchange(close=self._closes())

    def _end(self) -> None:
        self._ended = True
        self._ledger.end(self)

    def pause(self) -> None:
        """Pause reading the response: the client's buffer is full."""
        self._paused = True
        if self._upstream is not None:
            self._upstream.transport.pause_reading()

    def resume(self) -> None:
        """Resume reading."""
        self._paused = False
        if self._upstream is not None:
            self._upstream.transport.resume_reading()
        self._end_when_sent()

    def lose_client(self) -> None:
        """Stop: the client no longer waits for the response."""
        self._end()
        self._drop_upstream()

    def lose_upstream(self) -> None:
        """Signal to the client that its response is lost."""
        self._upstream = None
        if not self._ended:
            self.client.transport.abort()

    def _drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream.exchange = None
            self._upstream.transport.abort()
            self._upstream = None


async def _start(settings: dict[str, Any]) -> tuple[asyncio.Server, Answer]:
    proxy = Proxy(settings)
    make = partial(ClientConnection, proxy)
    server = await asyncio.get_running_loop().create_server(make, HOST, 0, backlog=BACKLOG)
    return server, proxy.answer


if __name__ == "__main__":
    serve(_start)
