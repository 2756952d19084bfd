from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks.s3_faults import Rule
from benchmarks.s3_proxy import S3Proxy
from local.s3.process import StoreProcess

pytestmark = pytest.mark.slow  # almost every test starts the proxy's process

ROOT = Path(__file__).resolve().parents[2]

BIG = bytes(range(256)) * 20_000
"""5 MB: larger than any buffer between store and client."""


class Upstream(ThreadingHTTPServer):
    """A store of objects over plain HTTP, which records the requests."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.hosts: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Upstream

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the proxy has closed the connection
            self.close_connection = True

    def do_GET(self) -> None:
        self.server.asked[self.command, self.path] += 1
        self.server.hosts.add(self.headers["Host"])
        data = self.server.objects.get(self.path)
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data or b"")

    do_HEAD = do_GET  # noqa: N815 (http.server's name)

    def do_PUT(self) -> None:
        self.server.asked[self.command, self.path] += 1
        self.server.objects[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextmanager
def connected(url: str) -> Iterator[http.client.HTTPConnection]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
    connection.request(method, path, body)
    answer = connection.getresponse()
    data = answer.read()
    assert answer.status in (200, 404)
    return data


@pytest.mark.parametrize("cache", [False, True])
def test_bytes_pass_unchanged_over_one_connection(upstream: Upstream, cache: bool) -> None:
    upstream.objects = {"/b/big": BIG, "/b/empty": b"", "/b/a%20b%C3%A9": b"\r\n\r\n"}
    with S3Proxy(upstream.url, cache=cache) as proxy, connected(proxy.url) as connection:
        for _ in range(2):
            for path, data in upstream.objects.items():
                assert ask(connection, path) == data
        assert ask(connection, "/b/big", "HEAD") == b""
        assert ask(connection, "/b/none") == b""
        assert ask(connection, "/b/big", "PUT", BIG[::-1]) == b""
        assert ask(connection, "/b/big") == BIG[::-1]
        counts = proxy.counts()
    assert upstream.hosts == {urlsplit(proxy.url).netloc}
    assert upstream.asked["GET", "/b/empty"] == (1 if cache else 2)
    assert upstream.asked["GET", "/b/big"] == (2 if cache else 3)
    assert counts.requests["GET", "a bé"] == 2
    assert counts.requests["HEAD", "big"] == counts.requests["PUT", "big"] == 1
    assert counts.bytes_sent == 3 * len(BIG) + 2 * 4
    assert counts.bytes_in_flight == len(BIG)
    assert counts.requests_in_flight == 1
    assert counts.total("GET") == 8
    assert counts.passed_on == sum(upstream.asked.values()) == (7 if cache else 10)


def test_delayed_gets_wait_together(upstream: Upstream) -> None:
    upstream.objects = {f"/b/{number}": b"x" * number for number in range(1, 101)}
    with S3Proxy(upstream.url, delay_seconds=3_600) as proxy, ExitStack() as stack:
        for path in upstream.objects:
            stack.enter_context(connected(proxy.url)).request("GET", path)
        await_equal(lambda: proxy.counts().bytes_in_flight, sum(range(1, 101)))
        assert proxy.counts().requests_in_flight == 100
        assert proxy.counts().bytes_sent == 0


def test_a_delayed_get_is_answered_in_full_and_no_sooner(upstream: Upstream) -> None:
    upstream.objects = {"/b/small": b"small", "/b/big": BIG}
    with S3Proxy(upstream.url, delay_seconds=0.1, cache=True) as proxy, connected(proxy.url) as connection:
        for path, data in [*upstream.objects.items()] * 2:  # first from the store, then from the cache
            begin = time.monotonic()
            assert ask(connection, path) == data
            assert time.monotonic() - begin >= 0.1


def test_only_gets_are_delayed_and_they_block_no_other_request(upstream: Upstream) -> None:
    upstream.objects = {"/b/slow": b"slow"}
    with S3Proxy(upstream.url, delay_seconds=3_600) as proxy, connected(proxy.url) as slow:
        slow.request("GET", "/b/slow")
        await_equal(lambda: proxy.counts().bytes_in_flight, 4)
        with connected(proxy.url) as connection:
            ask(connection, "/b/new", "PUT", b"new")
            ask(connection, "/b/new", "HEAD")
            proxy.set_delay(0)
            assert ask(connection, "/b/new") == b"new"
        assert proxy.counts().bytes_in_flight == 7


def test_bytes_in_flight_of_sequential_gets_are_not_added(upstream: Upstream) -> None:
    upstream.objects = {"/b/1": b"1" * 70_000, "/b/2": b"2" * 50_000}
    with S3Proxy(upstream.url) as proxy, connected(proxy.url) as connection:
        for path in upstream.objects:
            ask(connection, path)
        counts = proxy.counts()
    assert (counts.requests_in_flight, counts.bytes_in_flight, counts.bytes_sent) == (1, 70_000, 120_000)


def test_bytes_that_the_client_does_not_take_stay_in_flight(upstream: Upstream) -> None:
    upstream.objects = {"/b/big": BIG * 4, "/b/small": b"x"}
    with S3Proxy(upstream.url) as proxy, connected(proxy.url) as lazy, connected(proxy.url) as connection:
        lazy.request("GET", "/b/big")
        answer = lazy.getresponse()
        ask(connection, "/b/small")
        assert proxy.counts().bytes_in_flight == 4 * len(BIG) + 1
        assert proxy.counts().bytes_sent < 4 * len(BIG)
        assert answer.read() == BIG * 4


def test_an_error_has_the_status_and_code_of_s3(upstream: Upstream) -> None:
    upstream.objects = {"/b/a&b.jpg": b"data", "/b/other": b"other"}
    errors = {
        "slow_down": (503, "SlowDown"),
        "internal_error": (500, "InternalError"),
        "access_denied": (403, "AccessDenied"),
        "not_found": (404, "NoSuchKey"),
    }
    with S3Proxy(upstream.url) as proxy, connected(proxy.url) as connection:
        for fault, expected in errors.items():
            proxy.set_rules([Rule("*.jpg", fault, times=2)])
            for _ in range(2):
                connection.request("GET", "/b/a&b.jpg")
                answer = connection.getresponse()
                error = ElementTree.fromstring(answer.read())
                assert (answer.status, error.findtext("Code"), error.findtext("Key")) == (*expected, "a&b.jpg")
            assert ask(connection, "/b/a&b.jpg") == b"data"
        assert ask(connection, "/b/other") == b"other"
        counts = proxy.counts()
    assert counts.faults == 2 * len(errors)
    assert counts.requests["GET", "a&b.jpg"] == 3 * len(errors)
    assert upstream.asked["GET", "/b/a&b.jpg"] == len(errors)


def test_a_reset_comes_instead_of_an_answer_or_amid_it(upstream: Upstream) -> None:
    upstream.objects = {"/b/before": BIG, "/b/amid": BIG}
    rules = [Rule("before", "reset", times=1), Rule("amid", "reset_in_body", times=1)]
    for cache in (False, True):
        with S3Proxy(upstream.url, rules=rules, cache=cache) as proxy:
            with connected(proxy.url) as connection, pytest.raises(ConnectionResetError):
                ask(connection, "/b/before")
            with connected(proxy.url) as connection:
                connection.request("GET", "/b/amid")
                answer = connection.getresponse()
                assert answer.status == 200
                with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
                    answer.read()
            with connected(proxy.url) as connection:
                assert ask(connection, "/b/before") == ask(connection, "/b/amid") == BIG
            assert proxy.counts().faults == 2


def test_the_store_does_what_is_asked_and_its_response_is_lost(upstream: Upstream) -> None:
    with S3Proxy(upstream.url, rules=[Rule("k", "reset_after", times=1, methods=("PUT",))]) as proxy:
        with connected(proxy.url) as connection, pytest.raises(ConnectionResetError):
            ask(connection, "/b/k", "PUT", b"data")
        assert upstream.objects == {"/b/k": b"data"}
        with connected(proxy.url) as connection:
            assert ask(connection, "/b/k") == b"data"
        assert (proxy.counts().faults, proxy.counts().passed_on) == (1, 2)


def test_a_rule_matches_its_methods_and_keys() -> None:
    always, empty = Rule("data/*", "reset", methods=("GET", "PUT")), Rule("", "slow_down")
    assert always.matches("PUT", "data/a/b.jpg")
    assert not always.matches("HEAD", "data/a/b.jpg")
    assert not Rule("*", "reset").matches("GET", "")
    assert empty.matches("GET", "")
    assert not empty.matches("GET", "data")
    with pytest.raises(ValueError, match="is not one of the faults"):
        Rule("*", "slow")
    with pytest.raises(ValueError, match="expected 1 or more"):
        Rule("*", "reset", times=0)


def test_a_refused_put_does_not_break_the_connection(upstream: Upstream) -> None:
    with S3Proxy(upstream.url, rules=[Rule("*", "slow_down", times=1, methods=("PUT",))]) as proxy:
        with connected(proxy.url) as connection:
            connection.request("PUT", "/b/k", b"GET /b/x HTTP/1.1\r\n\r\n")
            answer = connection.getresponse()
            assert answer.status == 503
            answer.read()
            assert ask(connection, "/b/k", "PUT", b"data") == b""
        assert proxy.counts().requests == {("PUT", "k"): 2}
    assert upstream.objects == {"/b/k": b"data"}


def test_the_process_ends_with_the_proxy(upstream: Upstream) -> None:
    with S3Proxy(upstream.url) as proxy:
        os.kill(proxy.pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(proxy.pid, 0)
    with pytest.raises(RuntimeError, match="has stopped"):
        proxy.counts()


def test_the_process_ends_when_its_parent_is_killed() -> None:
    code = (
        "import time; from benchmarks.s3_proxy import S3Proxy; "
        "proxy = S3Proxy('http://127.0.0.1:1'); print(proxy.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    await_equal(lambda: is_running(pid), False)


def is_running(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def await_equal(value: Callable[[], object], expected: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while value() != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert value() == expected


def test_signatures_stay_valid_for_a_store_that_checks_them(tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    with (
        StoreProcess(tmp_path, environment={**os.environ, **keys}) as store,
        S3Proxy(store.url, rules=[Rule("*/twice é+%.jpg", "slow_down", times=1)]) as proxy,
    ):
        s3 = client(proxy.url, "secret")
        s3.create_bucket(Bucket="lake")
        written = {
            f"data/{name}": os.urandom(size) for name, size in [("once", 0), ("twice é+%.jpg", 3), ("c", 6 << 20)]
        }
        for key, data in written.items():
            s3.put_object(Bucket="lake", Key=key, Body=data)
        listed = [item["Key"] for item in s3.list_objects_v2(Bucket="lake", Prefix="data/")["Contents"]]
        assert sorted(listed) == sorted(written)
        for key, data in written.items():
            assert s3.get_object(Bucket="lake", Key=key)["Body"].read() == data
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            client(proxy.url, "wrong").get_object(Bucket="lake", Key="data/c")
        assert proxy.counts().requests["GET", "data/twice é+%.jpg"] == 2


def client(url: str, secret: str):
    config = Config(retries={"max_attempts": 5, "mode": "standard"}, s3={"addressing_style": "path"})
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="key",
        aws_secret_access_key=secret,
        region_name="eu-west-3",
        config=config,
    )
