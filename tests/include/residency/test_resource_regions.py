"""Answers that are no answer: what S3, KMS and EC2 might say, and a program could take for a yes."""

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

from include.residency.attestation import Attestation, ResidencyError, ResidencyUnansweredError
from include.residency.resource_regions import check_bucket, check_key, check_subnets, describe_subnets, refuse_redirect
from include.settings.deployment import Settings

HERE = "eu-west-3"
NOWHERE = '<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
HEAD_HERE = (200, {"x-amz-bucket-region": HERE}, "")
LOCATED_HERE = (200, {}, f"{NOWHERE}>{HERE}</LocationConstraint>")
NO_RULES = (404, {}, "<Error><Code>ReplicationConfigurationNotFoundError</Code><Message>none</Message></Error>")
DENIED = (403, {}, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
MOVED = (
    301,
    {"x-amz-bucket-region": "us-east-1"},
    "<Error><Code>PermanentRedirect</Code><Endpoint>x.s3.us-east-1.amazonaws.com</Endpoint></Error>",
)


class Store:
    """An S3 that says what it is told to say; what was asked of it is in ``asked``."""

    def __init__(self, head: Any = HEAD_HERE, location: Any = LOCATED_HERE, replication: Any = NO_RULES) -> None:
        self.answers = {"head": head, "location": location, "replication": replication}
        self.asked: list[str] = []

    def kind(self, method: str, path: str) -> str:
        return "head" if method == "HEAD" else "location" if "location" in path else "replication"


@contextmanager
def serving(store: Store) -> Iterator[Any]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            store.asked.append(f"{self.command} {self.path}")
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


def attestation() -> Attestation:
    return Attestation(Settings(aws_conn_id=None, allowed_regions=(HERE, "eu-west-1")))


def verdict(store: Store) -> ResidencyError | None:
    """What comes of a bucket whose store answers so."""
    found = attestation()
    with serving(store) as client:
        check_bucket(found, client, "FRUITS_LAKE", "lake")
    try:
        found.record()
    except ResidencyError as error:
        return error
    return None


def test_store_that_answers_as_it_should_is_allowed() -> None:
    assert verdict(Store()) is None


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ((200, {}, ""), "nothing that is certain"),
        ((200, {"x-amz-bucket-region": ""}, ""), "nothing that is certain"),
        ((200, {"x-amz-bucket-region": "eu-west-3."}, ""), "nothing that is certain"),
        ((200, {"x-amz-bucket-region": "EU-WEST-3"}, ""), "nothing that is certain"),
        ((200, {"x-amz-bucket-region": "eu-west-3, us-east-1"}, ""), "nothing that is certain"),
        ((200, {"x-amz-bucket-region": "us-east-1"}, ""), "'us-east-1'"),
        ((200, {"x-amz-bucket-region": HERE, "x-amz-access-point-alias": "true"}, ""), "an access point"),
        ((200, {"x-amz-bucket-region": HERE, "x-amz-bucket-location-type": "LocalZone"}, ""), "directory bucket"),
        ((403, {}, ""), "403"),
        ((403, {"x-amz-bucket-region": HERE}, ""), "Allow Airflow's role"),
        ((404, {}, ""), "404"),
        ((418, {}, ""), "418"),
    ],
)
def test_head_bucket_that_says_no_region_or_another_is_refused(head: Any, says: str) -> None:
    assert says in str(verdict(Store(head=head)))


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400])
def test_redirect_is_not_followed_but_refused(status: int) -> None:
    """botocore by itself would ask again in the region that it is sent to, and then be content."""
    store = Store(head=(status, MOVED[1], ""))
    error = verdict(store)
    assert "redirected to us-east-1" in str(error)
    assert sum(asked.startswith("HEAD") for asked in store.asked) == 1


def test_redirect_without_a_region_is_refused_as_well() -> None:
    assert "a region that S3 does not name" in str(verdict(Store(head=(301, {}, ""))))


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ((200, {}, f"{NOWHERE}/>"), "'us-east-1'"),
        ((200, {}, f"{NOWHERE}></LocationConstraint>"), "'us-east-1'"),
        ((200, {}, f"{NOWHERE}>EU</LocationConstraint>"), "'eu-west-1'"),
        ((200, {}, f"{NOWHERE}>us-west-2</LocationConstraint>"), "'us-west-2'"),
        ((200, {}, f"{NOWHERE}>eu-west-3; really</LocationConstraint>"), "nothing that is certain"),
        ((200, {}, "<html>Welcome to the hotel</html>"), "expected eu-west-3"),
        ((200, {}, "not XML <<<"), "nothing that is certain"),
        (DENIED, "AccessDenied"),
        (MOVED, "redirected to us-east-1"),
    ],
)
def test_location_that_is_empty_garbage_or_elsewhere_is_refused(location: Any, says: str) -> None:
    error = verdict(Store(location=location))
    assert says in str(error)
    assert "FRUITS_LAKE='lake'" in str(error)


@pytest.mark.parametrize(
    ("replication", "says"),
    [
        (DENIED, "AccessDenied"),
        ((200, {}, ""), "replication of the bucket is nothing that is certain"),
        ((200, {}, "<ReplicationConfiguration/>"), "replication of the bucket is nothing that is certain"),
        ((404, {}, "<Error><Code>NoSuchBucket</Code></Error>"), "NoSuchBucket"),
        (
            (200, {}, "<ReplicationConfiguration><Rule><ID>r</ID></Rule></ReplicationConfiguration>"),
            "replication rule 'r' \\(None\\)",
        ),
    ],
)
def test_replication_that_cannot_be_known_is_refused(replication: Any, says: str) -> None:
    assert re.search(says, str(verdict(Store(replication=replication))))


def test_destination_that_redirects_is_where_the_redirect_says() -> None:
    rule = "<Rule><ID>r</ID><Status>{}</Status><Destination><Bucket>arn:aws:s3:::copy</Bucket></Destination></Rule>"
    body = f"<ReplicationConfiguration>{rule.format('Enabled')}</ReplicationConfiguration>"

    class Two(Store):
        def kind(self, method: str, path: str) -> str:
            return "copy" if method == "HEAD" and path.startswith("/copy") else super().kind(method, path)

    for region, allowed in (("eu-west-1", True), ("us-east-1", False)):
        store = Two(replication=(200, {}, body))
        store.answers["copy"] = (301, {"x-amz-bucket-region": region}, "")
        assert (verdict(store) is None) == allowed


@pytest.mark.parametrize("answer", [(503, {}, "<Error><Code>SlowDown</Code></Error>"), (500, {}, "")])
def test_store_that_is_busy_or_broken_stops_the_run_but_may_be_asked_again(answer: Any) -> None:
    with pytest.raises(ResidencyUnansweredError, match="nothing starts before"), serving(Store(head=answer)) as client:
        check_bucket(attestation(), client, "FRUITS_LAKE", "lake")


def test_rules_that_are_garbage_stop_the_run() -> None:
    """botocore takes an answer of success that it cannot read for a fault of the store."""
    store = Store(replication=(200, {}, "not XML <<<"))
    with pytest.raises(ResidencyUnansweredError), serving(store) as client:
        check_bucket(attestation(), client, "FRUITS_LAKE", "lake")


def test_store_that_is_out_of_reach_stops_the_run() -> None:
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=1)
    client = boto3.client("s3", region_name=HERE, endpoint_url="http://127.0.0.1:1", config=config)
    with pytest.raises(ResidencyUnansweredError):
        check_bucket(attestation(), client, "FRUITS_LAKE", "lake")


def key_problems(metadata: dict[str, Any] | None) -> list[str]:
    client = boto3.client("kms", region_name=HERE)
    found, key = attestation(), f"arn:aws:kms:{HERE}:123456789012:key/k"
    with Stubber(client) as stub:
        if metadata is None:
            stub.add_client_error("describe_key", "AccessDeniedException", "not for you", 400)
        else:
            stub.add_response("describe_key", {"KeyMetadata": {"KeyId": "k"} | metadata})
        check_key(found, client, key)
    return found.problems


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (None, "AccessDeniedException"),
        ({}, "nothing that is certain"),
        ({"Arn": "arn:aws:kms:us-east-1:123456789012:key/k"}, "'us-east-1'"),
        ({"Arn": f"arn:aws:kms:{HERE}:123456789012:key/k", "MultiRegion": True}, "replicas is nothing that is certain"),
        ({"Arn": f"arn:aws:kms:{HERE}:123456789012:key/mrk-1"}, "replicas is nothing that is certain"),
        (
            {
                "Arn": f"arn:aws:kms:{HERE}:123456789012:key/mrk-1",
                "MultiRegion": True,
                "MultiRegionConfiguration": {"PrimaryKey": {"Region": HERE}, "ReplicaKeys": [{}]},
            },
            "replicas is nothing that is certain",
        ),
    ],
)
def test_key_whose_region_or_replicas_are_not_certain_is_refused(metadata: Any, says: str) -> None:
    assert says in "; ".join(key_problems(metadata))


def test_key_of_a_single_region_here_is_allowed() -> None:
    assert key_problems({"Arn": f"arn:aws:kms:{HERE}:123456789012:key/k", "MultiRegion": False}) == []


@pytest.mark.parametrize(
    ("subnet", "answer"),
    [
        ({"AvailabilityZone": "eu-west-3a"}, HERE),
        ({"AvailabilityZone": "us-east-1a"}, None),  # the zone and the ARN disagree
        ({"AvailabilityZone": "eu-west-3-par-1a"}, None),  # a local zone
        ({"AvailabilityZone": None}, None),
        ({"AvailabilityZone": "eu-west-3a", "SubnetArn": "garbage"}, None),
        ({"AvailabilityZone": "eu-west-3a", "OutpostArn": "arn:aws:outposts:x"}, "the outpost arn:aws:outposts:x"),
        ({"SubnetId": "subnet-2", "AvailabilityZone": "eu-west-3a"}, None),
    ],
)
def test_subnet_counts_only_in_a_zone_of_the_region_itself(subnet: dict[str, Any], answer: str | None) -> None:
    arn = f"arn:aws:ec2:{HERE}:123456789012:subnet/subnet-1"
    found = attestation()
    check_subnets(found, [{"SubnetId": "subnet-1", "SubnetArn": arn} | subnet], ("subnet-1",))
    assert [check.answer for check in found.checks] == [answer]
    assert (found.problems == []) == (answer == HERE)


def test_subnets_that_may_not_be_described_are_none_and_so_refused() -> None:
    client = boto3.client("ec2", region_name=HERE)
    with Stubber(client) as stub:
        stub.add_client_error("describe_subnets", "UnauthorizedOperation", "not for you", 403)
        assert describe_subnets(client, ("subnet-1",)) == []
        stub.add_client_error("describe_subnets", "RequestLimitExceeded", "later", 503)
        with pytest.raises(ResidencyUnansweredError):
            describe_subnets(client, ("subnet-1",))
