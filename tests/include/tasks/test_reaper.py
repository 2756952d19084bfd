"""The task of ``fruit_reaper`` fails if there were orphaned clusters, or if one could not be terminated."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.emr.reaper import Reaped
from include.tasks import reaper as tasks

pytestmark = pytest.mark.slow  # creates an AWS client


@pytest.mark.parametrize(
    ("reaped", "messages"),
    [
        (Reaped({}, {}), []),
        (Reaped({"j-1": "its run a is not live"}, {}), ["1 orphaned clusters were terminated. j-1: its run a"]),
        (Reaped({}, {"j-2": "protected"}), ["1 clusters could not be described or terminated. j-2: protected"]),
        (
            Reaped({"j-1": "old"}, {"j-2": "protected", "j-3": "throttled"}),
            ["j-1: old", "j-2: protected; j-3: throttled"],
        ),
    ],
    ids=["nothing", "terminated", "refused", "both"],
)
def test_every_cluster_is_reported_before_the_task_fails(
    lake: Path, monkeypatch: pytest.MonkeyPatch, reaped: Reaped, messages: list[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EMR", "http://127.0.0.1:1")  # nothing listens there
    monkeypatch.setattr(tasks, "get_current_context", lambda: {"ti": SimpleNamespace()})
    monkeypatch.setattr(tasks, "reap", lambda emr, rules: reaped)
    if not messages:
        tasks.reap_clusters()
        return
    with pytest.raises(AirflowFailException) as failure:
        tasks.reap_clusters()
    assert all(message in str(failure.value) for message in messages), failure.value
