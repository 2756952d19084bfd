"""Reading and waiting for logs are limited, and what cannot be read is reported."""

from __future__ import annotations

import gzip
import io
import random
from pathlib import Path
from typing import Any

import pytest

from include.autopsy import reading
from include.autopsy.reading import decompress_tail, read_bootstrap_logs, read_step_logs

ENDED = b"INFO waitProcessCompletion ended with exit code 1 : hadoop jar\n"


class Time:
    """A clock that advances only in ``sleep``; scheduled actions happen at their time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.actions: list[tuple[float, Any]] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        for action in [action for action in self.actions if action[0] <= self.now]:
            self.actions.remove(action)
            action[1]()

    def at(self, moment: float, act: Any) -> None:
        self.actions.append((moment, act))


@pytest.fixture
def time() -> Time:
    return Time()


def put(root: Path, name: str, data: bytes) -> None:
    path = root / "j-1" / f"{name}.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data))


def put_step(root: Path, stdout: bytes = b"out\n", stderr: bytes = b"err\n", controller: bytes = ENDED) -> None:
    for name, data in (("stdout", stdout), ("stderr", stderr), ("controller", controller)):
        put(root, f"steps/s-1/{name}", data)


def read(root: Path, time: Time, wait: float = 600) -> Any:
    return read_step_logs(f"file://{root}/", "j-1", "s-1", None, wait, time.sleep, time.clock)


def test_available_logs_are_read_at_once(tmp_path: Path, time: Time) -> None:
    put_step(tmp_path)
    logs = read(tmp_path, time)
    assert (logs.stdout, logs.stderr, logs.exit_code, logs.complete, logs.notes) == ("out\n", "err\n", 1, True, ())
    assert logs.folder == f"file://{tmp_path}/j-1/steps/s-1"
    assert time.pauses == []


def test_logs_are_waited_for_with_growing_pauses(tmp_path: Path, time: Time) -> None:
    put_step(tmp_path, stdout=b"half", controller=b"INFO startExec\n")  # EMR copies them while the step runs, too
    time.at(200, lambda: put_step(tmp_path, stdout=b"whole"))
    logs = read(tmp_path, time)
    assert (logs.stdout, logs.complete) == ("whole", True)
    assert 200 <= time.now < 200 + reading.LONGEST_PAUSE_SECONDS
    assert time.pauses == sorted(time.pauses)
    assert len(time.pauses) < 15


def test_missing_logs_are_reported_and_available_ones_returned(tmp_path: Path, time: Time) -> None:
    put_step(tmp_path, stdout=b"half", controller=b"INFO startExec\n")
    logs = read(tmp_path, time, wait=100)
    assert time.now == pytest.approx(100)
    assert (logs.stdout, logs.complete) == ("half", False)
    assert "not all of the logs arrived within 100 s" in logs.notes[0]
    nothing = read(tmp_path / "empty", Time(), wait=0)
    assert nothing.is_empty
    assert "no logs arrived within 0 s" in nothing.notes[0]
    assert nothing.folder == f"file://{tmp_path}/empty/j-1/steps/s-1"


def test_an_output_that_emr_leaves_out_costs_one_more_attempt(tmp_path: Path, time: Time) -> None:
    put_step(tmp_path)
    (tmp_path / "j-1/steps/s-1/stderr.gz").unlink()
    logs = read(tmp_path, time)
    assert (logs.stdout, logs.stderr, logs.complete) == ("out\n", "", True)
    assert len(time.pauses) == 1


def test_a_cluster_without_log_uri_is_reported(time: Time) -> None:
    logs = read_step_logs(None, "j-1", "s-1", None, 600, time.sleep, time.clock)
    assert logs.notes == ("the cluster has no LogUri, so its logs are lost",)
    assert time.pauses == []


def test_only_the_last_part_of_a_long_log_is_returned(tmp_path: Path, time: Time) -> None:
    put_step(tmp_path, stdout=b"".join(b"line %d\n" % number for number in range(200_000)))
    logs = read(tmp_path, time)
    assert len(logs.stdout) == reading.TAIL_BYTES
    assert logs.stdout.endswith("line 199999\n")
    assert logs.notes == ()


def test_a_log_above_the_size_limits_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_PLAIN_BYTES", 10_000_000)
    bomb = gzip.compress(bytes(50_000_000))

    class Stream(io.BytesIO):
        pass

    end, problem = decompress_tail(Stream(bomb), 1000)
    assert len(end) == 1000
    assert "is too long" in problem
    monkeypatch.setattr(reading, "MAX_COMPRESSED_BYTES", 2_000_000)
    noise = Stream(gzip.compress(random.Random(1).randbytes(8_000_000)))
    assert "too long" in decompress_tail(noise, 1000)[1]
    assert noise.tell() <= 4_000_000


def test_a_log_truncated_anywhere_returns_what_it_has() -> None:
    text = random.Random(2).randbytes(300).hex().encode()
    packed = gzip.compress(text)
    for length in (*range(0, len(packed), 7), len(packed)):
        tail, problem = decompress_tail(io.BytesIO(packed[:length]), 10_000)
        assert text.startswith(tail)
        assert problem == ("is truncated" if length < len(packed) else ""), length


def test_several_gzip_members_are_one_log_and_damage_ends_it() -> None:
    two = gzip.compress(b"first ") + gzip.compress(b"second")
    assert decompress_tail(io.BytesIO(two), 100) == (b"first second", "")
    assert decompress_tail(io.BytesIO(two + b"garbage"), 100)[0] == b"first second"
    assert decompress_tail(io.BytesIO(b"plain text"), 100) == (b"", "is damaged after 0 bytes of text")


def test_damage_and_bytes_that_are_not_text_are_reported_without_an_error(tmp_path: Path, time: Time) -> None:
    put_step(tmp_path, stderr=b"caf\xe9 \xff\n")
    (tmp_path / "j-1/steps/s-1/stdout.gz").write_bytes(gzip.compress(b"x" * 100_000)[:-50])
    logs = read(tmp_path, time)
    assert logs.stderr == "caf\N{REPLACEMENT CHARACTER} \N{REPLACEMENT CHARACTER}\n"
    assert any("stdout.gz is truncated" in note for note in logs.notes)
    assert logs.complete


def test_a_folder_in_the_place_of_a_log_is_reported(tmp_path: Path, time: Time) -> None:
    put_step(tmp_path)
    (tmp_path / "j-1/steps/s-1/stdout.gz").unlink()
    (tmp_path / "j-1/steps/s-1/stdout.gz").mkdir()
    logs = read(tmp_path, time)
    assert any("stdout.gz cannot be read (IsADirectoryError" in note for note in logs.notes)
    assert logs.stderr == "err\n"


FAILED = "container_1700000000000_0001_01_000003"
REASON = f"26/11/22 12:00:00 WARN x: Container marked as failed: {FAILED} on host: h. Exit status: 143."


def test_failed_containers_come_first_and_are_waited_for(tmp_path: Path, time: Time) -> None:
    put_step(tmp_path, stderr=REASON.encode())
    folder = "containers/application_1700000000000_0001"
    for number in (1, 2, 4, 5, 6, 7):
        put(tmp_path, f"{folder}/{FAILED[:-1]}{number}/stderr", b"of another")
    time.at(60, lambda: put(tmp_path, f"{folder}/{FAILED}/stderr", b"MemoryError\n"))
    logs = read(tmp_path, time)
    assert logs.containers[0].name == FAILED
    assert logs.containers[0].text == "MemoryError\n"
    assert len(logs.containers) == reading.MAX_CONTAINERS
    assert 60 <= time.now < 100


def test_a_failed_container_without_a_log_is_reported(tmp_path: Path, time: Time) -> None:
    put_step(tmp_path, stderr=REASON.encode())
    logs = read(tmp_path, time, wait=50)
    assert logs.containers == ()
    assert any(FAILED in note for note in logs.notes)
    assert time.now == pytest.approx(50)


def test_the_containers_of_the_steps_own_application_are_read(tmp_path: Path, time: Time) -> None:
    put_step(tmp_path, stderr=b"26/11/22 12:00:00 INFO YarnClientImpl: Submitted application application_17_0001\n")
    put(tmp_path, "containers/application_17_0001/container_17_0001_01_000002/stderr", b"mine")
    put(tmp_path, "containers/application_17_0002/container_17_0002_01_000002/stderr", b"of the next step")
    assert [log.text for log in read(tmp_path, time).containers] == ["mine"]
    assert time.pauses == []


def test_the_log_of_a_bootstrap_action_is_found_by_emrs_message(tmp_path: Path, time: Time) -> None:
    node = "i-0123456789abcdef0"
    put(tmp_path, f"node/{node}/bootstrap-actions/2/stderr", b"ERROR: no wheels\n")
    put(tmp_path, f"node/{node}/bootstrap-actions/2/stdout", b"")
    time.at(30, lambda: put(tmp_path, f"node/{node}/bootstrap-actions/2/controller", ENDED))
    reason = f"On the master instance ({node}), bootstrap action 2 returned a non-zero return code"
    root = f"file://{tmp_path}"
    logs = read_bootstrap_logs(root, "j-1", reason, None, 600, time.sleep, time.clock)
    assert (logs.stderr, logs.complete) == ("ERROR: no wheels\n", True)
    unnamed = read_bootstrap_logs(root, "j-1", "bootstrap action 2 failed", None, 0, time.sleep, time.clock)
    assert unnamed.stderr == "ERROR: no wheels\n"
    nobody = read_bootstrap_logs(f"{root}/nothing", "j-1", "failed", None, 0, time.sleep, time.clock)
    assert nobody.notes == ("EMR names no instance, and there are no logs of nodes yet",)


@pytest.mark.slow
def test_a_bucket_without_read_permission_is_reported_at_once(
    store: Any, lake_bucket: str, monkeypatch: pytest.MonkeyPatch, time: Time
) -> None:
    for name, data in (("stdout", b"out"), ("stderr", b"err"), ("controller", ENDED)):
        store.put(lake_bucket, f"logs/j-1/steps/s-1/{name}.gz", gzip.compress(data))
    root = f"s3n://{lake_bucket}/logs/"
    allowed = store.connection(monkeypatch, "reader")
    logs = read_step_logs(root, "j-1", "s-1", allowed, 600, time.sleep, time.clock)
    assert (logs.stdout, logs.complete, logs.notes) == ("out", True, ())
    refused = store.connection(monkeypatch, "reader", secret="wrong")
    logs = read_step_logs(root, "j-1", "s-1", refused, 600, time.sleep, time.clock)
    assert logs.is_empty
    assert "s3:GetObject and s3:ListBucket" in " ".join(logs.notes)
    assert time.pauses == []
