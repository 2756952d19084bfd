"""The time limit of a command is found and shortened."""

from __future__ import annotations

from local.emr.spark import time_limit


def test_a_limit_is_split_off_and_shortened() -> None:
    command = ["spark-submit", "--conf", "a=b", "app.py"]
    limit = ["timeout", "--signal=TERM", "--kill-after=60s", "3h"]
    assert time_limit.split([*limit, *command]) == (limit, command)
    assert time_limit.split(["/usr/bin/timeout", "-k", "60s", "-s", "TERM", "3h", "x"])[1] == ["x"]
    assert time_limit.split(command) == ([], command)
    assert time_limit.duration([*limit, *command]) == "3h"
    assert time_limit.shorten(limit, 2) == ["timeout", "--signal=TERM", "--kill-after=2s", "2s"]
    assert time_limit.shorten(["timeout", "-k", "60s", "3h"], 0.5) == ["timeout", "-k", "0.5s", "0.5s"]
