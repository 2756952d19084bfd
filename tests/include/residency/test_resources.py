"""Answers of S3, KMS and EC2 that do not prove a region are refused."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber

from include.residency.checks import ResidencyChecks, ResidencyError, ResidencyUnansweredError
from include.residency.resources import check_bucket, check_key, check_subnets, describe_subnets, refuse_redirect
from include.settings.deployment import Settings

HERE = "eu-west-3"
LOCATION = '<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
HEAD_HERE = (200, {"x-amz-bucket-region": HERE}, "")
LOCATED_HERE = (200, {}, f"{LOCATION}>{HERE}</LocationConstraint>")
NO_RULES = (404, {}, "<Error><Code>ReplicationConfigurationNotFoundError</Code><Message>none</Message></Error>")
DENIED = (403, {}, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
MOVED = (
    301,
    {"x-amz-bucket-region": "us-east-1"},
    "<Error><Code>PermanentRedirect</Code><Endpoint>x.s3.us-east-1.amazonaws.com</Endpoint></Error>",
)


class Store:
    """An S3 server with fixed answers; it records its requests."""

    def __init__(self, head: Any = HEAD_HERE, location: Any = LOCATED_HERE, replication: Any = NO_RULES) -> None:
        self.answers = {"head": head, "location": location, "replication": replication}
        self.requests: list[str] = []

    def kind(self, method: str, path: str) -> str:
        return "head" if method == "HEAD" else "location" if "location" in path else "replication"


@contextmanager
def serving(store: Store) -> Iterator[Any]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            store.requests.append(f"{self.command} {self.path}")
            status, headers, body = store.answers[store.kind(self.command, self.path)]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body.encode())

        do_HEAD = do_GET = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    client = boto3.client(
        "s3",
        region_name=HERE,
        endpoint_url=f"http://127.0.0.1:{server.server_port}",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    client.meta.events.register_first("needs-retry.s3", refuse_redirect)
    try:
        yield client
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()


def new_checks() -> ResidencyChecks:
    return ResidencyChecks(Settings(aws_conn_id=None, allowed_regions=(HERE, "eu-west-1")))


def verdict(store: Store) -> ResidencyError | None:
    """Return the error about a bucket of this store; None if the bucket is allowed."""
    checks = new_checks()
    with serving(store) as client:
        check_bucket(checks, client, "FRUITS_LAKE", "lake")
    try:
        checks.attest()
    except ResidencyError as error:
        return error
    return None


def test_a_bucket_in_the_region_is_allowed() -> None:
    assert verdict(Store()) is None


BAD_HEADS = [
    ((200, {}, ""), "unknown"),
    ((200, {"x-amz-bucket-region": ""}, ""), "unknown"),
    ((200, {"x-amz-bucket-region": "eu-west-3."}, ""), "unknown"),
    ((200, {"x-amz-bucket-region": "EU-WEST-3"}, ""), "unknown"),
    ((200, {"x-amz-bucket-region": "eu-west-3, us-east-1"}, ""), "unknown"),
    ((200, {"x-amz-bucket-region": "us-east-1"}, ""), "'us-east-1'"),
    ((200, {"x-amz-bucket-region": HERE, "x-amz-access-point-alias": "true"}, ""), "an access point"),
    ((200, {"x-amz-bucket-region": HERE, "x-amz-bucket-location-type": "LocalZone"}, ""), "directory bucket"),
    ((403, {}, ""), "403"),
    ((403, {"x-amz-bucket-region": HERE}, ""), "Allow Airflow's role"),
    ((404, {}, ""), "404"),
    ((418, {}, ""), "418"),
]


def test_a_head_bucket_answer_without_this_region_is_refused() -> None:
    for head, message in BAD_HEADS:
        assert message in str(verdict(Store(head=head))), head


def test_a_redirect_is_refused_and_not_followed() -> None:
    """botocore itself would repeat the request in the other region, and accept the answer."""
    for status in (301, 302, 307, 308, 400):
        store = Store(head=(status, MOVED[1], ""))
        assert "redirected to us-east-1" in str(verdict(store)), status
        assert sum(request.startswith("HEAD") for request in store.requests) == 1


def test_redirect_without_a_region_is_refused_as_well() -> None:
    assert "a region that S3 does not name" in str(verdict(Store(head=(301, {}, ""))))


BAD_LOCATIONS = [
    ((200, {}, f"{LOCATION}/>"), "'us-east-1'"),
    ((200, {}, f"{LOCATION}></LocationConstraint>"), "'us-east-1'"),
    ((200, {}, f"{LOCATION}>EU</LocationConstraint>"), "'eu-west-1'"),
    ((200, {}, f"{LOCATION}>us-west-2</LocationConstraint>"), "'us-west-2'"),
    ((200, {}, f"{LOCATION}>eu-west-3; really</LocationConstraint>"), "unknown"),
    ((200, {}, "<html>Welcome to the hotel</html>"), "expected eu-west-3"),
    ((200, {}, "not XML <<<"), "unknown"),
    (DENIED, "AccessDenied"),
    (MOVED, "redirected to us-east-1"),
]


def test_a_location_that_is_empty_malformed_or_elsewhere_is_refused() -> None:
    for location, message in BAD_LOCATIONS:
        error = str(verdict(Store(location=location)))
        assert message in error, location
        assert "FRUITS_LAKE='lake'" in error


BAD_REPLICATIONS = [
    (DENIED, "AccessDenied"),
    ((200, {}, ""), "replication of the bucket is unknown"),
    ((200, {}, "<ReplicationConfiguration/>"), "replication of the bucket is unknown"),
    ((404, {}, "<Error><Code>NoSuchBucket</Code></Error>"), "NoSuchBucket"),
    (
        (200, {}, "<ReplicationConfiguration><Rule><ID>r</ID></Rule></ReplicationConfiguration>"),
        "replication rule 'r' \\(None\\)",
    ),
]


def test_an_unknown_replication_is_refused() -> None:
    for replication, message in BAD_REPLICATIONS:
        assert re.search(message, str(verdict(Store(replication=replication)))), replication


def test_a_replication_destination_that_redirects_is_in_the_region_of_the_redirect() -> None:
    rule = "<Rule><ID>r</ID><Status>{}</Status><Destination><Bucket>arn:aws:s3:::copy</Bucket></Destination></Rule>"
    body = f"<ReplicationConfiguration>{rule.format('Enabled')}</ReplicationConfiguration>"

    class TwoBuckets(Store):
        def kind(self, method: str, path: str) -> str:
            return "copy" if method == "HEAD" and path.startswith("/copy") else super().kind(method, path)

    for region, allowed in (("eu-west-1", True), ("us-east-1", False)):
        store = TwoBuckets(replication=(200, {}, body))
        store.answers["copy"] = (301, {"x-amz-bucket-region": region}, "")
        assert (verdict(store) is None) == allowed


def test_a_store_that_is_busy_or_fails_stops_the_run_and_may_be_retried() -> None:
    for answer in ((503, {}, "<Error><Code>SlowDown</Code></Error>"), (500, {}, "")):
        store = Store(head=answer)
        with pytest.raises(ResidencyUnansweredError, match="nothing starts before"), serving(store) as client:
            check_bucket(new_checks(), client, "FRUITS_LAKE", "lake")


def test_malformed_replication_rules_stop_the_run() -> None:
    """botocore treats a successful answer that it cannot parse as a server error."""
    store = Store(replication=(200, {}, "not XML <<<"))
    with pytest.raises(ResidencyUnansweredError), serving(store) as client:
        check_bucket(new_checks(), client, "FRUITS_LAKE", "lake")


def test_a_store_that_cannot_be_reached_stops_the_run() -> None:
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=1)
    client = boto3.client("s3", region_name=HERE, endpoint_url="http://127.0.0.1:1", config=config)
    with pytest.raises(ResidencyUnansweredError):
        check_bucket(new_checks(), client, "FRUITS_LAKE", "lake")


def key_problems(metadata: dict[str, Any] | None) -> list[str]:
    client = boto3.client("kms", region_name=HERE)
    checks, key = new_checks(), f"arn:aws:kms:{HERE}:123456789012:key/k"
    with Stubber(client) as stub:
        if metadata is None:
            stub.add_client_error("describe_key", "AccessDeniedException", "not for you", 400)
        else:
            stub.add_response("describe_key", {"KeyMetadata": {"KeyId": "k"} | metadata})
        check_key(checks, client, key)
    return checks.problems


BAD_KEYS = [
    (None, "AccessDeniedException"),
    ({}, "unknown"),
    ({"Arn": "arn:aws:kms:us-east-1:123456789012:key/k"}, "'us-east-1'"),
    ({"Arn": f"arn:aws:kms:{HERE}:123456789012:key/k", "MultiRegion": True}, "replicas is unknown"),
    ({"Arn": f"arn:aws:kms:{HERE}:123456789012:key/mrk-1"}, "replicas is unknown"),
    (
        {
            "Arn": f"arn:aws:kms:{HERE}:123456789012:key/mrk-1",
            "MultiRegion": True,
            "MultiRegionConfiguration": {"PrimaryKey": {"Region": HERE}, "ReplicaKeys": [{}]},
        },
        "replicas is unknown",
    ),
]


def test_a_key_whose_region_or_replicas_are_unknown_is_refused() -> None:
    for metadata, message in BAD_KEYS:
        assert message in "; ".join(key_problems(metadata)), metadata


def test_a_single_region_key_of_the_region_is_allowed() -> None:
    assert key_problems({"Arn": f"arn:aws:kms:{HERE}:123456789012:key/k", "MultiRegion": False}) == []


SUBNETS = [
    ({"AvailabilityZone": "eu-west-3a"}, HERE),
    ({"AvailabilityZone": "us-east-1a"}, None),  # the zone and the ARN disagree
    ({"AvailabilityZone": "eu-west-3-par-1a"}, None),  # a local zone
    ({"AvailabilityZone": None}, None),
    ({"AvailabilityZone": "eu-west-3a", "SubnetArn": "garbage"}, None),
    ({"AvailabilityZone": "eu-west-3a", "OutpostArn": "arn:aws:outposts:x"}, "the outpost arn:aws:outposts:x"),
    ({"SubnetId": "subnet-2", "AvailabilityZone": "eu-west-3a"}, None),
]


def test_a_subnet_is_allowed_only_in_a_zone_of_the_region_itself() -> None:
    for subnet, answer in SUBNETS:
        arn = f"arn:aws:ec2:{HERE}:123456789012:subnet/subnet-1"
        checks = new_checks()
        check_subnets(checks, [{"SubnetId": "subnet-1", "SubnetArn": arn} | subnet], ("subnet-1",))
        assert [check["answer"] for check in checks.checks] == [answer], subnet
        assert (checks.problems == []) == (answer == HERE)


def test_no_subnets_are_returned_when_describing_is_denied() -> None:
    client = boto3.client("ec2", region_name=HERE)
    with Stubber(client) as stub:
        stub.add_client_error("describe_subnets", "UnauthorizedOperation", "not for you", 403)
        assert describe_subnets(client, ("subnet-1",)) == []
        stub.add_client_error("describe_subnets", "RequestLimitExceeded", "later", 503)
        with pytest.raises(ResidencyUnansweredError):
            describe_subnets(client, ("subnet-1",))
