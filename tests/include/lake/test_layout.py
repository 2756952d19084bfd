"""The slug of a run, and the locations in the lake."""

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
def test_slug_has_safe_characters_and_does_not_depend_on_the_zone(
    run_id: str, moment: datetime, zone: timezone
) -> None:
    slug = run_slug(run_id, moment)
    assert re.fullmatch(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}", slug)
    assert re.fullmatch(SLUG, slug)
    assert run_slug(run_id, moment.astimezone(zone)) == slug


@given(st.lists(run_ids, min_size=2, max_size=20, unique=True), moments)
def test_runs_of_the_same_second_have_different_slugs(names: list[str], moment: datetime) -> None:
    assert len({run_slug(name, moment) for name in names}) == len(names)


@given(run_ids, run_ids, moments, moments, zones)
def test_slugs_sort_by_time(first: str, second: str, one: datetime, other: datetime, zone: timezone) -> None:
    early, late = sorted([one.replace(microsecond=0), other.replace(microsecond=0)])
    if early < late:
        assert run_slug(first, early.astimezone(zone)) < run_slug(second, late)


def test_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        run_slug(RUN_ID, NOON.replace(tzinfo=None))


def locations_of(run: RunLocations) -> list[str]:
    names = [name for name, value in vars(RunLocations).items() if isinstance(value, property)]
    return [getattr(run, name) for name in names]


def test_locations_of_a_run_are_different_and_in_its_folder() -> None:
    run = Lake("s3://bucket/folder").run("20261122T120000Z-c5fd7e1e")
    found = locations_of(run)
    assert len(found) == len(set(found)) >= 11
    assert all(uri.startswith("s3://bucket/folder/runs/20261122T120000Z-c5fd7e1e/") for uri in found)


def test_locations_of_the_lake_are_those_of_the_documentation() -> None:
    lake = Lake("s3://bucket")
    assert lake.data("/fruits/new/") == "s3://bucket/fruits/new"
    assert lake.results == "s3://bucket/results"
    assert lake.results_csv == "s3://bucket/results_csv/pca_features.csv"
    assert lake.current == "s3://bucket/current.json"
    assert lake.shown == "s3://bucket/results.json"
    assert lake.manifests == "s3://bucket/manifests"
    assert lake.features("a-00000") == "s3://bucket/segments/a-00000/features.parquet"
    assert lake.absolute("manifests/000001-a.json") == "s3://bucket/manifests/000001-a.json"
    assert lake.relative(lake.absolute("runs/a/pca/scores")) == "runs/a/pca/scores"
    assert lake.logs == "s3://bucket/logs/"
    assert lake.model("abc") == "s3://bucket/models/abc"
    assert lake.code("abc") == "s3://bucket/code/abc"
    assert lake.report("20261122T120000Z-c5fd7e1e") == "s3://bucket/reports/run=20261122T120000Z-c5fd7e1e/report.json"
