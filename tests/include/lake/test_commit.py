"""A state is published by one write, once, and only on top of the state from which its run started."""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

from include.lake import commit as commits
from include.lake.commit import ConflictError, RestoreError, commit, restore
from include.lake.layout import Lake
from include.lake.state import DamagedLakeError, Pointer, read_manifest, read_pointer
from spark_jobs.lake.conditional_writes import Tag
from tests.include.lake.faults import Killed, Steps, kill, observed
from tests.include.lake.places import Place, base_of, files
from tests.include.run_records import (
    MODEL_FILE,
    PREVIOUS,
    SLUG,
    cost_record,
    kept_basis_record,
    manifest,
    pca_summary,
    run_record,
    segment_record,
)

FIRST, SECOND, THIRD = (f"202611{day}T120000Z-0123abcd" for day in (21, 22, 23))
TIME = "2026-11-22T12:06:00+00:00"


def state(slug: str, *, segments: Any = None, round_: str = "0123456789ab", **changes: Any) -> Any:
    """A state that a run wants to publish."""
    found = segments or [segment_record(f"{slug}-00112233-00000")]
    return manifest(run=run_record(slug=slug, round=round_), segments=found, **changes)


def publish(place: Place, wanted: Any, base: str | None = "the published state", published_at: str = TIME) -> Any:
    found = base_of(place) if base == "the published state" else base
    return commit(place.lake, wanted, found, published_at, place.conn)


def test_states_have_numbers_and_name_the_state_before_them(place: Place) -> None:
    empty = [segment_record("a", features=0, rejects=4, bytes=0, vectors=None, results=[]), segment_record("b")]
    wanted = [json.loads(json.dumps(each)) for each in (state(FIRST, segments=empty), state(SECOND))]
    first = publish(place, wanted[0])
    assert first == {
        "manifest": f"manifests/000001-{FIRST}.json",
        "state": 1,
        "run": FIRST,
        "run_id": "manual__2026-11-22T12:00:00+00:00",
        "published_at": TIME,
        "images": 3,
        "rejects": 1,
        "k": 2,
        "variance_reached": 0.9,
        "warnings": [],
        "features": ["segments/b/features.parquet"],
        "scores": f"runs/{FIRST}/pca/scores",
        "csv": f"runs/{FIRST}/pca/pca_features.csv",
        "basis": {"digest": hashlib.sha256(MODEL_FILE).hexdigest(), "since": SLUG},
    }
    assert json.loads(place.read("current.json")) == first
    second = publish(place, wanted[1])
    assert (second["state"], second["manifest"]) == (2, f"manifests/000002-{SECOND}.json")
    assert place.names() == {"current.json", first["manifest"], second["manifest"]}
    one, two = (json.loads(place.read(current["manifest"])) for current in (first, second))
    assert one == wanted[0] | {"state": 1, "previous_manifest": None}
    assert two == wanted[1] | {"state": 2, "previous_manifest": first["manifest"]}


def test_run_fails_before_it_changes_a_file_if_another_run_has_published(place: Place) -> None:
    publish(place, state(FIRST))
    base = base_of(place)
    publish(place, state(SECOND))
    before = files(place)
    for found in (base, None, "0" * 64):
        with pytest.raises(ConflictError, match=f"the run {SECOND} has published since .* Trigger a new run"):
            publish(place, state(THIRD), found)
        assert files(place) == before


def test_run_changes_nothing_that_people_read_if_another_one_publishes_in_between(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run publishes at each moment of the commit, until it is too late to be in between."""
    names = ("read_pointer", "create", "replace")
    publish(place, state(FIRST))
    outcomes = []
    for number in itertools.count():
        slugs = [f"202612{1 + number:02d}T{hour}0000Z-0123abcd" for hour in (12, 13)]
        steps = Steps(number, lambda slugs=slugs: publish(place, state(slugs[1])))
        base = base_of(place)
        with observed(monkeypatch, commits, names, steps):
            try:
                publish(place, state(slugs[0]), base)
            except ConflictError as error:
                outcomes.append(str(error).partition(" has published since")[0])
            else:
                outcomes.append("published")
        current = json.loads(place.read("current.json"))
        if number >= len(steps.seen):
            assert current["run"] == slugs[0]
            break
        assert current["run"] == slugs[1], "the later one is published in any case"
        manifest_ = json.loads(place.read(current["manifest"]))
        is_before = "after replace" not in steps.seen[number]
        expected = f"the run {slugs[1]}" if is_before else "published"
        assert outcomes[-1] == expected, steps.seen[number]
        previous = json.loads(place.read(manifest_["previous_manifest"]))
        assert (previous["run"] == slugs[0]) is not is_before, "no published state is lost"
    assert len(outcomes) - outcomes.count("published") >= 5


def publish_at(start: float, root: str, environ: dict[str, str], conn: str | None, slug: str, base: str | None) -> str:
    """Publish at a time, in another process; return the outcome."""
    os.environ |= environ
    wanted = state(slug)
    read_pointer(Lake(root), conn)  # opens the connection
    time.sleep(max(0.0, start - time.monotonic()))
    try:
        return commit(Lake(root), wanted, base, TIME, conn)["run"]
    except ConflictError:
        return "conflict"


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        yield processes


def test_exactly_one_of_two_processes_publishes(place: Place, pool: ProcessPoolExecutor) -> None:
    root, conn = place.lake.root, place.conn
    environ = {name: value for name, value in os.environ.items() if conn and name.endswith(conn.upper())}
    ready = [pool.submit(publish_at, 0.0, f"{root}/other", environ, conn, FIRST, None) for _ in range(4)]
    assert {each.result() for each in ready} == {FIRST}
    for number in range(1, 9):
        slugs = [f"2026120{number}T1{hour}0000Z-0123abcd" for hour in range(2)]
        base, start = base_of(place), time.monotonic() + 0.3
        waiting = [pool.submit(publish_at, start, root, environ, conn, slug, base) for slug in slugs]
        outcomes = [each.result() for each in waiting]
        assert outcomes.count("conflict") == 1, outcomes
        [winner] = set(outcomes) & set(slugs)
        current = json.loads(place.read("current.json"))
        assert (current["run"], current["state"]) == (winner, number)


def test_repetition_publishes_nothing_again_although_time_and_cost_differ(place: Place) -> None:
    base = base_of(place)
    current = publish(place, state(FIRST), base)
    before = files(place)
    later = state(FIRST, finished_at="2026-11-22T13:00:00+00:00", cost=cost_record())
    for found in (base, base_of(place)):
        assert publish(place, later, found, "2026-11-22T13:00:00+00:00") == current
        assert files(place) == before


def test_run_that_is_killed_at_any_moment_is_published_by_its_repetition(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the loss of the store's answer to the manifest or the pointer, and another cost in the second attempt."""
    publish(place, state(FIRST))
    for number in itertools.count(1):
        slug, base, before = f"202612{number:02d}T120000Z-0123abcd", base_of(place), files(place)
        steps = Steps(number - 1, kill)
        with observed(monkeypatch, commits, ("read_pointer", "create", "replace"), steps):
            try:
                publish(place, state(slug), base)
            except Killed:
                pass
            else:
                break
        named = json.loads(place.read("current.json"))["run"] == slug
        assert named == ("after replace" in steps.seen[-1])
        assert (place.read("current.json") == before["current.json"]) is not named
        left = {name: data for name, data in files(place).items() if name not in before}
        current = publish(place, state(slug, finished_at="2027-01-01T00:00:00+00:00", cost=cost_record()), base)
        assert (current["run"], current["state"]) == (slug, number + 1)
        assert place.names() == before.keys() | {current["manifest"]}, "one manifest, however often"
        if left:
            assert place.read(current["manifest"]) == left[current["manifest"]], "it is used as it is"
        assert json.loads(place.read("current.json")) == current
    assert number > 6


def test_killed_attempt_stops_another_outcome_of_the_same_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one was killed before the pointer moved; then the steps were repeated. A cleared run has a new name."""
    wanted = state(FIRST, segments=[segment_record("outcome-1")])
    with observed(monkeypatch, commits, ("replace",), Steps(0, kill)), pytest.raises(Killed):
        publish(place, wanted, None)
    before = files(place)
    with pytest.raises(ConflictError, match="has another state, from an earlier attempt of this run: clear open_run"):
        publish(place, state(FIRST, segments=[segment_record("outcome-2")]), None)
    assert files(place) == before
    current = publish(place, wanted, None)
    assert json.loads(place.read(current["manifest"]))["segments"] == wanted["segments"]


def test_kept_state_is_restored_as_a_new_state(place: Place) -> None:
    for slug in (FIRST, SECOND, THIRD):
        publish(place, state(slug))
    first = json.loads(place.read(f"manifests/000001-{FIRST}.json"))
    current = restore(place.lake, 1, "2026-11-24T00:00:00+00:00", place.conn)
    assert (current["state"], current["run"]) == (4, FIRST)
    assert json.loads(place.read("current.json")) == current
    restored = json.loads(place.read(current["manifest"]))
    assert restored == first | {"state": 4, "previous_manifest": f"manifests/000003-{THIRD}.json"}
    place.delete(f"manifests/000002-{SECOND}.json")
    before = files(place)
    for number, message in (
        (4, "is the published one"),
        (2, "is not kept; expected one of 3$"),
        (9, "expected one of 3"),
    ):
        with pytest.raises(RestoreError, match=message):
            restore(place.lake, number, TIME, place.conn)
    assert files(place) == before


def test_damaged_pointer_and_one_of_the_first_version_are_replaced(place: Place) -> None:
    first_version = {"run": FIRST, "run_id": "x", "images": 5, "results": ["part-0.parquet"], "warnings": []}
    for number, data in enumerate([b"", b"{", b"[]", b'"x"', b"{}", b"\xff", json.dumps(first_version).encode()]):
        place.write("current.json", data)
        pointer = read_pointer(place.lake, place.conn)
        assert pointer is not None
        assert (pointer.current, pointer.digest) == (None, hashlib.sha256(data).hexdigest())
        slug = f"2026120{number + 1}T120000Z-0123abcd"
        with pytest.raises(ConflictError):
            publish(place, state(slug), "0" * 64)
        assert place.read("current.json") == data
        current = publish(place, state(slug))
        assert (current["state"], current["run"]) == (1, slug)
        assert json.loads(place.read(current["manifest"]))["previous_manifest"] is None


def test_missing_or_damaged_manifest_is_an_error_that_says_what_to_do(place: Place) -> None:
    assert read_pointer(place.lake, place.conn) is None
    current = publish(place, state(FIRST))
    for damage in (lambda: place.delete(current["manifest"]), lambda: place.write(current["manifest"], b"{")):
        damage()
        with pytest.raises(DamagedLakeError, match=r"Restore the file .*delete .*/current\.json"):
            read_manifest(place.lake, current["manifest"], place.conn)


def test_a_pointer_is_identified_by_its_content() -> None:
    assert Pointer(Tag("1"), "a", {}) == Pointer(Tag("1"), "a", {}) != Pointer(Tag("2"), "a", {})


def test_pointer_names_the_basis_of_the_state(place: Place) -> None:
    """A state that an earlier version has published was fitted by its own run."""
    kept = publish(place, state(FIRST, pca=pca_summary(basis=kept_basis_record())))
    assert kept["basis"] == {"digest": hashlib.sha256(MODEL_FILE).hexdigest(), "since": PREVIOUS}
    old = pca_summary()
    del old["basis"]
    assert publish(place, state(SECOND, pca=old))["basis"] == {"digest": None, "since": SECOND}
