"""Faults of API calls: errors, late responses, broken connections."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError, ReadTimeoutError

ONE_ATTEMPT = {"retries": {"total_max_attempts": 1}}


@pytest.fixture
def one_attempt(emr: Any) -> Any:
    """A client that does not retry calls, like that of the operators."""
    return emr.client_of("eu-west-3", config=Config(**ONE_ATTEMPT))


def test_a_glob_throttles_every_action(emr: Any, one_attempt: Any) -> None:
    cluster = emr.create()
    fault = {"action": "*", "error": "ThrottlingException", "message": "Rate exceeded", "times": "forever"}
    emr.set_faults({"api": [fault]})
    calls = [
        lambda: one_attempt.run_job_flow(**emr.request()),
        lambda: one_attempt.add_job_flow_steps(JobFlowId=cluster, Steps=[emr.bash("true")]),
        lambda: one_attempt.describe_cluster(ClusterId=cluster),
        lambda: one_attempt.list_clusters(),
        lambda: one_attempt.list_steps(ClusterId=cluster),
        lambda: one_attempt.terminate_job_flows(JobFlowIds=[cluster]),
    ]
    for call in calls:
        with pytest.raises(ClientError, match="Rate exceeded") as refused:
            call()
        assert refused.value.response["Error"]["Code"] == "ThrottlingException"
    named = [match["what"] for match in emr.faults("GET", "/matches")]
    assert named == [
        *("RunJobFlow", "AddJobFlowSteps", "DescribeCluster", "ListClusters", "ListSteps", "TerminateJobFlows")
    ]


def test_throttling_once_before_the_action(emr: Any) -> None:
    emr.set_faults({"api": [{"action": "RunJobFlow", "error": "ThrottlingException", "message": "Rate exceeded"}]})
    before = len(emr.client.list_clusters()["Clusters"])
    # botocore sends a throttled request again by itself: the second one comes through.
    answer = emr.client.run_job_flow(**emr.request())
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1
    assert len(emr.client.list_clusters()["Clusters"]) in (before + 1, 50)


def test_access_is_always_denied(emr: Any) -> None:
    cluster = emr.create()
    emr.set_faults(
        {
            "api": [
                {
                    "action": "TerminateJobFlows",
                    "error": "AccessDeniedException",
                    "http_status": 403,
                    "times": "forever",
                }
            ]
        }
    )
    for _ in range(3):
        with pytest.raises(ClientError) as refused:
            emr.client.terminate_job_flows(JobFlowIds=[cluster])
        assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert emr.await_cluster(cluster, "WAITING")


def test_an_error_after_the_action_took_effect(emr: Any) -> None:
    emr.set_faults({"api": [{"action": "RunJobFlow", "error": "ValidationException", "when": "after"}]})
    with pytest.raises(ClientError):
        emr.create(Name="exists after an error")
    names = [summary["Name"] for summary in emr.client.list_clusters()["Clusters"]]
    assert names[0] == "exists after an error"


def test_describe_cluster_fails_once_right_after_run_job_flow(emr: Any) -> None:
    emr.set_faults({"api": [{"action": "DescribeCluster", "error": "InvalidRequestException"}]})
    cluster = emr.create()
    with pytest.raises(ClientError, match="DescribeCluster"):
        emr.cluster(cluster)
    assert emr.cluster(cluster)["Id"] == cluster


def test_the_api_is_down_with_a_response(emr: Any, one_attempt: Any) -> None:
    fault = {"action": "*", "error": "ServiceUnavailable", "http_status": 503, "for_seconds": 600}
    emr.set_faults({"api": [fault]})
    with pytest.raises(ClientError) as refused:
        one_attempt.list_clusters()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    # 600 s are 1 s on this endpoint's clock: longer than botocore's own retries.
    emr.await_true(lambda: _responds(one_attempt), "the API is up again")


def _responds(client: Any) -> bool:
    try:
        client.list_clusters()
    except ClientError:
        return False
    return True


def test_the_api_is_down_without_a_response(emr: Any, one_attempt: Any) -> None:
    emr.set_faults({"api": [{"action": "*", "drops": True, "times": 2}]})
    for _ in range(2):
        with pytest.raises(HTTPClientError) as dropped:
            one_attempt.list_clusters()
        assert not isinstance(dropped.value, ReadTimeoutError), "no time-out"
    assert one_attempt.list_clusters()["Clusters"] is not None


def test_an_action_can_take_effect_although_the_connection_breaks(emr: Any, one_attempt: Any) -> None:
    emr.set_faults({"api": [{"action": "RunJobFlow", "drops": True, "when": "after"}]})
    with pytest.raises((HTTPClientError, EndpointConnectionError)):
        one_attempt.run_job_flow(**emr.request(Name="exists without a response"))
    assert emr.client.list_clusters()["Clusters"][0]["Name"] == "exists without a response"


def test_an_action_whose_response_is_too_late_takes_effect_once(emr: Any) -> None:
    impatient = emr.client_of("eu-west-3", config=Config(read_timeout=0.5, **ONE_ATTEMPT))
    emr.set_faults({"api": [{"action": "RunJobFlow", "delay_seconds": 1200, "when": "after"}]})  # 2 s on this clock
    with pytest.raises(ReadTimeoutError):
        impatient.run_job_flow(**emr.request(Name="late response"))
    names = [cluster["Name"] for cluster in emr.client.list_clusters()["Clusters"]]
    assert names.count("late response") == 1
