"""Old states are deleted, and nothing that the kept states, people, or a run in progress may need."""

from __future__ import annotations

import itertools
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.lake.commit import commit
from include.lake.garbage import AGE, KEPT_OF_A_RUN, collect_garbage, find_reachable
from include.lake.layout import Lake
from include.lake.state import DamagedLakeError
from include.settings.parameters import MAX_STEP_MINUTES
from tests.include.lake.places import Bucket, Folder, Place, base_of, publish, upload
from tests.include.run_folders import write_run, write_segment, write_state
from tests.include.run_records import manifest, run_record, segment_record

UNPUBLISHED = ("listing.parquet", "staging/part-0.parquet", "pca/scores/part-0.parquet", "progress/pca.json")
"""Files of a run that are garbage if it has not published."""

WORKING = ("work.parquet", "gone.parquet", "changes.json", "progress/pca.json")
"""Files of a run that are garbage if it has."""

SLUGS = [f"202611{day}T120000Z-aaaaaaaa" for day in range(10, 30)]
FIRST_VERSION = "20261101T120000Z-aaaaaaaa"


@pytest.fixture
def history(place: Place, tmp_path: Path) -> list[dict[str, Any]]:
    """Publish four states in a lake: each replaces the first segment of the state before; return their pointers."""
    source = tmp_path / "source"
    kept = write_segment(source, f"{SLUGS[0]}-00112233-kept", 3, 0)
    runs = [
        write_state(source, slug, [kept, write_segment(source, f"{slug}-00112233-new", 2, 3)], work=2)
        for slug in SLUGS[:4]
    ]
    old = source / "runs" / FIRST_VERSION
    for name in ("manifest.json", "features/part-0.parquet", "listing.parquet", "report.html"):
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).write_bytes(b"of the first version")
    failed = source / "runs" / "20261102T120000Z-aaaaaaaa"
    for name in (
        *KEPT_OF_A_RUN,
        "listing.parquet",
        "staging/part-0.parquet",
        "pca/scores/part-0.parquet",
        "progress/pca.json",
    ):
        (failed / name).parent.mkdir(parents=True, exist_ok=True)
        (failed / name).write_bytes(b"of a failed run")
    for name in ("report.html", "report.json", "cost.json", "progress/pca.json"):
        for run in runs:
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).write_bytes(b"small")
    upload(place, source)
    return [dict(publish(place, run)) for run in runs]


def collect(place: Place, kept_states: int, age: timedelta = timedelta(days=-1)) -> list[str]:
    """Collect garbage; by default, everything is older than the age."""
    return collect_garbage(place.lake, kept_states, place.conn, age=age)


SMALL = {f"runs/{slug}/{name}" for slug in SLUGS for name in KEPT_OF_A_RUN}


@pytest.mark.usefixtures("history")
def test_everything_that_the_kept_states_name_stays_and_everything_else_goes(place: Place) -> None:
    before = place.names()
    collect(place, 4)
    after = place.names()
    gone_with_unpublished = {f"runs/20261102T120000Z-aaaaaaaa/{name}" for name in UNPUBLISHED}
    working = {f"runs/{slug}/{name}" for slug in SLUGS[:4] for name in WORKING}
    assert before - after == gone_with_unpublished | working
    deleted = collect(place, 2)
    left = place.names()
    expected = {name for slug in SLUGS[:2] for name in after if name.startswith(f"runs/{slug}/")} - SMALL
    expected |= {name for slug in SLUGS[:2] for name in after if f"{slug}-00112233-new/" in name}
    expected |= {f"manifests/00000{number + 1}-{slug}.json" for number, slug in enumerate(SLUGS[:2])}
    assert after - left == expected
    assert {name for slug in SLUGS[:2] for name in left if f"runs/{slug}" in name} == {
        name for name in after & SMALL if any(slug in name for slug in SLUGS[:2])
    }
    assert set(deleted) == {name for name in expected if not name.startswith("segments/")} | {
        f"segments/{slug}-00112233-new" for slug in SLUGS[:2]
    }
    assert {f"runs/{FIRST_VERSION}/{name}" for name in ("manifest.json", "features/part-0.parquet")} <= left
    assert collect(place, 2) == [], "a repetition deletes nothing"


def test_files_of_the_published_state_are_there_and_a_reader_finds_them(
    place: Place, history: list[dict[str, Any]]
) -> None:
    collect(place, 1)
    current = history[-1]
    names = place.names()
    assert {*current["features"], current["csv"], current["manifest"], "current.json", "results.json"} <= names
    assert f"{current['scores']}/part-00000.parquet" in names
    assert f"runs/{current['run']}/listing.parquet" in names, "the next run compares the images with it"
    assert len([name for name in names if name.startswith("results/")]) == 2


@pytest.mark.usefixtures("history")
def test_younger_files_stay_and_a_segment_is_as_young_as_its_youngest_file(place: Place) -> None:
    """What a run in progress has written is named by no state yet."""
    assert collect(place, 1, AGE) == []
    time.sleep(2.1)  # the store has whole seconds
    start, started = time.time(), time.monotonic()
    time.sleep(1.1)
    young = [
        f"segments/{SLUGS[0]}-00112233-new/segment.json",
        f"segments/{SLUGS[5]}-00112233-00000/features.parquet",
        f"runs/{SLUGS[5]}/staging/part-0.parquet",
        f"runs/{SLUGS[0]}/listing.parquet",
        f"manifests/000005-{SLUGS[5]}.json",
    ]
    for name in young:
        place.write(name, b"young")
    before = place.names()
    deleted = collect(place, 1, timedelta(seconds=time.time() - start))
    assert time.monotonic() - started < 3600, "the clock was not set"
    left = place.names()
    assert set(young) <= left
    assert {name for name in before if name.startswith(f"segments/{SLUGS[0]}-00112233-new/")} <= left
    assert f"segments/{SLUGS[1]}-00112233-new" in deleted


def test_age_is_longer_than_any_run() -> None:
    assert 3 * timedelta(minutes=MAX_STEP_MINUTES) < AGE


def test_damaged_manifest_deletes_nothing(place: Place, history: list[dict[str, Any]]) -> None:
    for number, damage in itertools.product((3, 2), (b"{", b"[]", b"")):
        good = place.read(history[number]["manifest"])
        place.write(history[number]["manifest"], damage)
        before = place.names()
        with pytest.raises(DamagedLakeError, match=history[number]["run"]):
            collect(place, 3)
        assert place.names() == before
        place.write(history[number]["manifest"], good)
    place.delete(history[3]["manifest"])
    before = place.names()
    with pytest.raises(DamagedLakeError, match="does not exist"):
        collect(place, 3)
    assert place.names() == before


def test_missing_manifest_of_an_older_state_ends_the_chain(place: Place, history: list[dict[str, Any]]) -> None:
    """Fewer states were kept before: the limit was raised."""
    place.delete(history[1]["manifest"])
    assert find_reachable(place.lake, 99, place.conn) == find_reachable(place.lake, 2, place.conn)
    deleted = collect(place, 99)
    assert f"segments/{SLUGS[1]}-00112233-new" in deleted
    assert not [name for name in deleted if SLUGS[2] in name and not name.endswith(WORKING)]


def test_lake_without_a_state_keeps_everything(place: Place) -> None:
    for pointer in (None, b"{", b'{"run": "x"}'):
        if pointer is not None:
            place.write("current.json", pointer)
        place.write(f"segments/{SLUGS[0]}-00112233-00000/features.parquet", b"x")
        before = place.names()
        assert collect(place, 1) == []
        assert place.names() == before


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    states=st.lists(st.sets(st.integers(0, 7), min_size=1), min_size=1, max_size=6),
    kept_states=st.integers(1, 8),
    old=st.sets(st.integers(0, 7)),
    merged=st.integers(0, 7),
)
def test_segments_of_any_history_stay_exactly_if_a_kept_state_names_them_or_they_are_young(
    tmp_path_factory: pytest.TempPathFactory,
    states: list[set[int]],
    kept_states: int,
    old: set[int],
    merged: int,
) -> None:
    """Every state names some of eight segments, and shows the rows of one of them from the file of a merged one."""
    root = tmp_path_factory.mktemp("lake")
    lake = Lake(f"file://{root}")
    for number in range(8):
        file = root / "segments" / f"s{number}" / "features.parquet"
        file.parent.mkdir(parents=True)
        file.touch()
        if number in old:
            past = time.time() - (AGE + timedelta(minutes=1)).total_seconds()
            os.utime(file, (past, past))
    for number, ids in enumerate(states):
        segments = [segment_record(f"s{each}") for each in sorted(ids)]
        segments[0]["results"] = [*segments[0]["results"], f"part-s{merged}.parquet"]
        wanted = manifest(run=run_record(slug=SLUGS[number]), segments=segments)
        commit(lake, wanted, base_of(Folder(root)), "2026-11-22T12:00:00+00:00", None)
    collect_garbage(lake, kept_states, None)
    named = set.union(*states[-kept_states:]) | {merged}
    left = {int(path.name[1:]) for path in (root / "segments").iterdir()}
    assert left == {number for number in range(8) if number in named or number not in old}


def test_many_segments_of_a_bucket_are_deleted_with_all_their_files(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    run = write_run(source, 5, SLUGS[0])
    upload(place, source)
    publish(place, run)
    for number in range(30):
        for name in ("features.parquet", "segment.json"):
            place.write(f"segments/{SLUGS[1]}-é#%20+-{number:05d}/{name}", b"x")
    deleted = collect(place, 1)
    assert sum(name.startswith("segments/") for name in deleted) == 30
    assert not [name for name in place.names() if SLUGS[1] in name]
    assert isinstance(place, Bucket) or not list((Path(place.lake.root[7:]) / "segments").glob(f"{SLUGS[1]}*"))
