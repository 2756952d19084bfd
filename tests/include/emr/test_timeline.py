"""The parts of a cluster's life, from answers of EMR."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from include.emr.timeline import read_timeline

START = datetime(2026, 11, 22, 12, tzinfo=UTC)


def at(minutes: float | None) -> datetime | None:
    return None if minutes is None else START + timedelta(minutes=minutes)


def cluster(ready: float | None, end: float | None) -> dict[str, Any]:
    times = {"CreationDateTime": at(0), "ReadyDateTime": at(ready), "EndDateTime": at(end)}
    return {"Status": {"Timeline": {name: time for name, time in times.items() if time}}}


def step(name: str, start: float | None, end: float | None) -> dict[str, Any]:
    times = {"CreationDateTime": at(0), "StartDateTime": at(start), "EndDateTime": at(end)}
    return {"Name": name, "Status": {"Timeline": {key: time for key, time in times.items() if time}}}


@pytest.mark.parametrize(
    ("answer", "steps", "expected"),
    [
        (
            cluster(6, 20), [step("pca", 13, 15), step("featurize", 7, 12)],
            [("start", "", 0, 6), ("step", "featurize", 7, 12), ("step", "pca", 13, 15), ("end", "", 15, 20)],
        ),
        (cluster(6, None), [step("featurize", 7, None), step("pca", None, None)],
         [("start", "", 0, 6), ("step", "featurize", 7, 30)]),
        (cluster(None, 4), [step("featurize", None, 4)], [("start", "", 0, 4)]),
        (cluster(None, None), [], [("start", "", 0, 30)]),
        (cluster(5, 9), [], [("start", "", 0, 5), ("end", "", 5, 9)]),
        ({}, [], []),
    ],
)  # fmt: skip
def test_timeline(answer: dict[str, Any], steps: list[dict[str, Any]], expected: list[tuple[Any, ...]]) -> None:
    found = read_timeline(answer, steps, START + timedelta(minutes=30))
    minutes = [
        (
            part["what"],
            part["name"],
            *((datetime.fromisoformat(part[key]) - START).seconds // 60 for key in ("start", "end")),
        )
        for part in found
    ]
    assert minutes == expected
