"""What EMR does not promise: the order of lists, the size of pages, and that an answer has the newest state."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

SHUFFLED = ("--shuffle", "3", "--page-size", "2", "--clock-rate", "600")


def listed(client: Any, action: str, key: str, **request: Any) -> list[list[str]]:
    """Return the ids on each page of a list."""
    return [[item["Id"] for item in page[key]] for page in client.get_paginator(action).paginate(**request)]


def joined(pages: list[list[str]]) -> list[str]:
    return [item_id for page in pages for item_id in page]


def test_list_clusters_is_unordered_and_has_small_pages_with_each_cluster_once(start_endpoint: Any) -> None:
    _, emr = start_endpoint(*SHUFFLED)
    created = [emr.create() for _ in range(9)]
    pages = listed(emr.client, "list_clusters", "Clusters")
    assert [len(page) for page in pages] == [2, 2, 2, 2, 1]
    ids = joined(pages)
    assert sorted(ids) == sorted(created)
    assert ids not in (created, created[::-1])


def test_list_steps_loses_its_order_when_it_is_filtered(start_endpoint: Any) -> None:
    _, emr = start_endpoint(*SHUFFLED)
    cluster = emr.create()
    added = emr.add(cluster, *[emr.step("sleep", "600") for _ in range(9)])
    whole = joined(listed(emr.client, "list_steps", "Steps", ClusterId=cluster))
    assert whole == added[::-1], "without a filter, the newest first"
    states = ["PENDING", "RUNNING"]
    filtered = joined(listed(emr.client, "list_steps", "Steps", ClusterId=cluster, StepStates=states))
    assert sorted(filtered) == sorted(added)
    assert filtered not in (added, added[::-1])


def test_a_new_cluster_is_listed_after_the_delay_and_described_at_once(start_endpoint: Any) -> None:
    _, slow = start_endpoint("--staleness", "3600")
    cluster = slow.create()
    assert slow.client.list_clusters()["Clusters"] == []
    assert slow.cluster(cluster)["Id"] == cluster
    _, fast = start_endpoint("--staleness", "600", "--clock-rate", "600")
    cluster = fast.create()
    fast.await_true(lambda: fast.client.list_clusters()["Clusters"], "the new cluster is listed")


def test_a_termination_is_visible_after_the_delay(start_endpoint: Any) -> None:
    """The cluster accepts no steps from the request on, although it is described as live."""
    _, slow = start_endpoint("--staleness", "3600")
    cluster = slow.create()
    slow.client.terminate_job_flows(JobFlowIds=[cluster])
    assert slow.state(cluster) in {"STARTING", "BOOTSTRAPPING", "WAITING"}
    assert "EndDateTime" not in slow.cluster(cluster)["Status"]["Timeline"]
    with pytest.raises(Exception, match="may not be modified"):
        slow.add(cluster, slow.step("true"))
    _, fast = start_endpoint("--staleness", "600", "--clock-rate", "600")
    cluster = fast.create()
    fast.await_cluster(cluster, "WAITING")
    fast.client.terminate_job_flows(JobFlowIds=[cluster])
    fast.await_true(
        lambda: fast.client.list_clusters(ClusterStates=["TERMINATED"])["Clusters"], "it is listed as ended"
    )


@pytest.mark.parametrize("arguments", [("--page-size", "0"), ("--staleness", "-1")])
def test_an_impossible_page_size_or_delay_is_refused(start_endpoint: Any, arguments: tuple[str, ...]) -> None:
    with pytest.raises(RuntimeError, match="did not come up"):
        start_endpoint(*arguments)
