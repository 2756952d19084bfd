"""Names in the lake: a run's slug, and that every location is below its root."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.lake.layout import SLUG, Lake, RunLocations, run_slug

NOON = datetime(2026, 11, 22, 12, 0, 0, 458_586, tzinfo=UTC)
RUN_ID = "manual__2026-11-22T12:00:00.458586+00:00"

moments = st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
run_ids = st.text(min_size=1, max_size=250)


def test_slug_is_the_time_and_the_digest_of_the_run_id() -> None:
    # printf 'manual__2026-11-22T12:00:00.458586+00:00' | sha256sum | cut -c1-8
    assert run_slug(RUN_ID, NOON) == "20261122T120000Z-c5fd7e1e"


@given(run_ids, moments, zones)
def test_slug_is_the_same_for_a_rerun_whatever_zone_the_time_is_told_in(
    run_id: str, moment: datetime, zone: timezone
) -> None:
    assert run_slug(run_id, moment) == run_slug(run_id, moment.astimezone(zone))


@given(run_ids, moments)
def test_slug_has_no_character_that_globs_paths_or_keys_treat_specially(run_id: str, moment: datetime) -> None:
    assert re.fullmatch(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}", run_slug(run_id, moment))
    assert re.fullmatch(SLUG, run_slug(run_id, moment)), "what is known as a slug elsewhere"


@given(st.lists(run_ids, min_size=2, max_size=20, unique=True), moments)
def test_runs_of_the_same_second_have_names_of_their_own(names: list[str], moment: datetime) -> None:
    assert len({run_slug(name, moment) for name in names}) == len(names)


@given(run_ids, run_ids, moments, moments, zones)
def test_names_sort_by_time(first: str, second: str, one: datetime, other: datetime, zone: timezone) -> None:
    early, late = sorted([one.replace(microsecond=0), other.replace(microsecond=0)])
    if early < late:
        assert run_slug(first, early.astimezone(zone)) < run_slug(second, late)


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        run_slug(RUN_ID, NOON.replace(tzinfo=None))


def locations_of(run: RunLocations) -> list[str]:
    names = [name for name, value in vars(RunLocations).items() if isinstance(value, property)]
    return [getattr(run, name) for name in names]


def test_everything_that_a_run_writes_is_below_its_own_folder_and_apart() -> None:
    run = Lake("s3://bucket/folder").run("20261122T120000Z-c5fd7e1e")
    found = locations_of(run)
    assert len(found) == len(set(found)) >= 11
    assert all(uri.startswith("s3://bucket/folder/runs/20261122T120000Z-c5fd7e1e/") for uri in found)


def test_lake_has_the_folders_of_the_contract() -> None:
    lake = Lake("s3://bucket")
    assert lake.data("/fruits/new/") == "s3://bucket/fruits/new"
    assert lake.results == "s3://bucket/results"
    assert lake.results_csv == "s3://bucket/results_csv/pca_features.csv"
    assert lake.current == "s3://bucket/current.json"
    assert lake.logs == "s3://bucket/logs/"
    assert lake.model("abc") == "s3://bucket/models/abc"
    assert lake.code("abc") == "s3://bucket/code/abc"
    assert lake.report("20261122T120000Z-c5fd7e1e") == "s3://bucket/reports/run=20261122T120000Z-c5fd7e1e/report.json"
