"""Attempts of the job: none replaces a file of another, and one that dies leaves the published segments as they are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import pytest

from spark_jobs.errors import JobError
from spark_jobs.featurize import job, segments
from spark_jobs.featurize.extraction import Engine
from spark_jobs.lake import storage
from spark_jobs.runtime import context
from tests.spark_jobs import lake_days
from tests.spark_jobs.in_process import Here
from tests.spark_jobs.lake_days import Lake, live_in, load_model, local, photo

lake = lake_days.lake

pytestmark = pytest.mark.slow

ENGINE = Engine(load_model)
RUN = job.run


class Killed(BaseException):
    """The end of the process: nothing in the job catches it."""


def kill_at(patch: pytest.MonkeyPatch, number: int, *, after: bool) -> list[str]:
    """Let the job die before or after the write with a number; return the list that its writes are added to."""
    writing = storage.writing
    writes: list[str] = []

    @contextmanager
    def counted(uri: str, *others: Any) -> Iterator[BinaryIO]:
        writes.append(uri)
        is_last = len(writes) == number
        if is_last and not after:
            raise Killed
        with writing(uri, *others) as stream:
            yield stream
        if is_last:
            raise Killed

    patch.setattr(storage, "writing", counted)
    return writes


def two_days(lake: Lake) -> None:
    lake.run_day({f"a/{number}.jpg": photo(number) for number in range(5)} | {"a/bad.jpg": b"no image"})
    lake.run_day({"b/1.jpg": photo(11)})
    lake.change({"a/1.jpg": None, "a/2.jpg": photo(12), "c/1.jpg": photo(13), "c/bad.jpg": b"", "c/2.jpg": photo(14)})


def find_and_run(lake: Lake) -> None:
    args = lake.args("third", small_segments=1)
    lake.find(args, lake.published())
    job.run(Here(), args, engine=ENGINE)  # type: ignore[arg-type]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_job_that_dies_at_any_write_leaves_published_segments_alone_and_its_retry_is_whole(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(segments, "ROWS_PER_SEGMENT", 9)
    two_days(lake)
    published, run = lake.files(), local(lake.args("third").run)
    number = 1
    while True:
        with monkeypatch.context() as patch:
            writes = kill_at(patch, number, after=after)
            try:
                find_and_run(lake)
            except Killed:
                pass
            else:
                break
        files = lake.files()
        assert {name: files.get(name) for name in published} == published
        named = writes[:-1] if not after else writes
        assert (run / "segments.json").exists() == any(uri.endswith("/segments.json") for uri in named)
        assert (run / "featurize.json").exists() == any(uri.endswith("/featurize.json") for uri in named)
        number += 1
    assert number > 20, "else the test has not seen the job's writes"
    live = live_in(run)
    assert lake.rows(live) == lake.expected()
    files = lake.files()
    assert {name: files.get(name) for name in published} == published


def test_a_rerun_of_the_same_run_replaces_no_file_of_an_earlier_attempt(lake: Lake) -> None:
    two_days(lake)
    find_and_run(lake)
    run = local(lake.args("third").run)
    first, files = live_in(run), lake.files()
    find_and_run(lake)
    second, now = live_in(run), lake.files()
    assert {name: now.get(name) for name in files} == files
    new = [
        {segment["id"] for segment in live} - {each["id"] for each in lake.days[-1].live} for live in (first, second)
    ]
    assert new[0]
    assert new[0].isdisjoint(new[1])
    assert all(id_.startswith("third-") for ids in new for id_ in ids)
    assert lake.rows(first) == lake.rows(second) == lake.expected()


def test_a_rerun_that_dies_at_once_leaves_no_list_of_segments_of_the_earlier_attempt(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else pca would fit the features of another attempt."""
    two_days(lake)
    find_and_run(lake)
    with monkeypatch.context() as patch:
        kill_at(patch, 1, after=False)
        with pytest.raises(Killed):
            job.run(Here(), lake.args("third"), engine=ENGINE)  # type: ignore[arg-type]
    run = local(lake.args("third").run)
    assert not (run / "segments.json").exists()
    assert not (run / "featurize.json").exists()


class Rivals(Here):
    """Whenever an attempt of a task has written a file, and before the file has its name, another attempt of that task
    runs from start to end."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.rivals = 0
        self._rival: Callable[[], Any] | None = None
        writing = storage.writing

        @contextmanager
        def overtaken(uri: str, *others: Any) -> Iterator[BinaryIO]:
            with writing(uri, *others) as stream:
                yield stream
                rival, self._rival = self._rival, None
                if rival is not None:
                    rival()
                    self.rivals += 1
                    self._rival = rival

        patch.setattr(storage, "writing", overtaken)

    def run_tasks(self, items: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
        results = []
        for item in items:
            self._rival = functools.partial(work, item)
            results.append(work(item))
            self._rival = None
        return results


class Stragglers(Here):
    """Every task has an attempt that is so slow that it runs when the job is over, until its executor is stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[Callable[[], Any]] = []

    def run_tasks(self, items: Sequence[Any], work: Callable[[Any], Any]) -> list[Any]:
        self.late += [functools.partial(work, item) for item in items]
        return [work(item) for item in items]

    def stop(self) -> None:
        for attempt in self.late:
            with suppress(FileNotFoundError):  # what it would read is deleted: Spark ignores how it ends
                attempt()


def test_attempts_of_a_task_at_the_same_time_give_the_rows_of_one(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with speculative execution; with one segment for two images, workers write the segments too."""
    monkeypatch.setattr(segments, "ROWS_PER_SEGMENT", 2)
    two_days(lake)
    args = lake.args("third", small_segments=1)
    lake.find(args, lake.published())
    with monkeypatch.context() as patch:
        spark = Rivals(patch)
        job.run(spark, args, engine=ENGINE)  # type: ignore[arg-type]
    assert spark.rivals > 10, "else the test has not seen the tasks' writes"
    assert lake.rows(live_in(local(args.run))) == lake.expected()
    assert not (local(args.run) / "staging").exists()


def test_attempts_that_end_after_the_job_change_no_segment_and_leave_nothing(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "ROWS_PER_SEGMENT", 2)
    two_days(lake)
    args = lake.args("third", small_segments=1)
    lake.find(args, lake.published())
    spark = Stragglers()
    monkeypatch.setattr(context, "start", lambda _name: spark)
    files: list[dict[str, bytes]] = []

    def run(*arguments: Any, **options: Any) -> None:
        RUN(*arguments, **options, engine=ENGINE)
        files.append(lake.files())

    monkeypatch.setattr(job, "run", run)
    assert job.main(args.to_argv()) == 0
    assert len(spark.late) > 1, "else no attempt was late"
    assert files == [lake.files()]
    assert lake.rows(live_in(local(args.run))) == lake.expected()
    assert not (local(args.run) / "staging").exists()


def test_segments_that_lack_an_image_fail_the_job(lake: Lake) -> None:
    """A work list that is of another day's listing: an image would have no row."""
    two_days(lake)
    args = lake.args("third")
    lake.find(args, lake.published())
    other = lake.args("other")
    lake.change({"c/3.jpg": photo(15)})
    lake.find(other, lake.published())
    (local(args.run) / "listing.parquet").write_bytes((local(other.run) / "listing.parquet").read_bytes())
    found = (local(other.run) / "changes.json").read_text().replace('"work": 5', '"work": 4')
    (local(args.run) / "changes.json").write_text(found)
    with pytest.raises(
        JobError, match=r"10 images were listed, but 7 features \+ 2 rejects = 9 rows.*c/3\.jpg is missing"
    ):
        job.run(Here(), args, engine=ENGINE)  # type: ignore[arg-type]
    assert not (local(args.run) / "featurize.json").exists()
