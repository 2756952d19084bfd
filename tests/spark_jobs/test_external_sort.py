"""Records are sorted whatever their number and order, and no file is left."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spark_jobs import external_sort
from spark_jobs.external_sort import sort_records

ORDERS: dict[str, Callable[[list[Any]], None]] = {
    "ascending": lambda records: None,
    "descending": lambda records: records.reverse(),
    "shuffled": lambda records: random.Random(7).shuffle(records),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of the real numbers."""
    for name, value in {"RECORDS_IN_MEMORY": 100, "BATCH": 10, "MOST_RUNS": 4}.items():
        monkeypatch.setattr(external_sort, name, value)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 2_345])
def test_records_come_in_order(count: int, order: str) -> None:
    records = [(f"{number:05}".encode(), number, "é\udce9") for number in range(count)]
    expected = list(records)
    ORDERS[order](records)
    assert list(sort_records(iter(records))) == expected


def test_equal_records_are_all_there() -> None:
    assert list(sort_records((number % 3,) for number in range(1_000))) == sorted((n % 3,) for n in range(1_000))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """The temporary files that were made."""
    files: list[Any] = []
    real = tempfile.TemporaryFile

    def make() -> Any:
        files.append(real(dir=tmp_path))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", make)
    return files


@pytest.mark.parametrize(("order", "files"), [("ascending", 1), ("descending", 20 + 6)])
def test_no_more_files_are_open_than_allowed(made: list[Any], tmp_path: Path, order: str, files: int) -> None:
    """Records in order make one file. In reverse they make 20; a merge of four into one makes room for three."""
    records = [(number,) for number in range(2_000)]
    ORDERS[order](records)
    iterator = sort_records(records)
    next(iterator)
    assert list(tmp_path.iterdir()) == [], "they have no names"
    assert sum(not file.closed for file in made) <= 4
    assert len(made) == files
    iterator.close()  # type: ignore[attr-defined]
    assert all(file.closed for file in made)


def test_few_records_need_no_file(made: list[Any]) -> None:
    assert len(list(sort_records([(number,) for number in range(99)]))) == 99
    assert made == []
