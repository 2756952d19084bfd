from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from benchmarks.s3_listing import LABELS, Keys, ListingServer, list_page

COUNT = 5_321


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with ListingServer(COUNT) as server:
        yield boto3.client("s3", endpoint_url=server.url, region_name="eu-west-3")


def listed(s3: Any, **parameters: Any) -> tuple[list[dict[str, Any]], list[str]]:
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", **parameters))
    objects = [item for page in pages for item in page.get("Contents", [])]
    return objects, [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]


def test_keys_are_in_the_order_of_their_bytes_and_one_label_has_nine_tenths() -> None:
    keys = Keys(COUNT)
    names = list(keys)
    assert len(keys) == len(set(names)) == COUNT
    assert names == sorted(names, key=str.encode)
    labels = Counter(name.split("/")[1] for name in names)
    assert len(labels) == LABELS
    assert labels.most_common(1)[0][1] == round(0.9 * COUNT)
    assert min(keys.size(index) for index in range(COUNT)) > 0
    assert [keys.find(name) for name in names[::97]] == list(range(0, COUNT, 97))


def test_few_keys_still_reach_every_label() -> None:
    assert len({name.split("/")[1] for name in Keys(LABELS)}) == LABELS
    with pytest.raises(ValueError, match="expected one or more for each"):
        Keys(LABELS - 1)


@pytest.mark.slow
def test_all_pages_together_are_all_keys_once(s3: Any) -> None:
    objects, folders = listed(s3)
    keys = Keys(COUNT)
    assert [(item["Key"], item["Size"]) for item in objects] == [(keys[n], keys.size(n)) for n in range(COUNT)]
    assert folders == []


@pytest.mark.parametrize("page_size", [1, 7, 1_000])
@pytest.mark.slow
def test_a_delimiter_rolls_up_folders(s3: Any, page_size: int) -> None:
    options = {"Delimiter": "/", "PaginationConfig": {"PageSize": page_size}}
    objects, folders = listed(s3, Prefix="data/", **options)
    assert objects == []
    assert folders == sorted({key.rpartition("/")[0] + "/" for key in Keys(COUNT)})
    if page_size > 1:
        objects, none = listed(s3, Prefix=folders[3], **options)
        assert [item["Key"] for item in objects] == [key for key in Keys(COUNT) if key.startswith(folders[3])]
        assert none == []


@pytest.mark.slow
def test_start_after_leaves_out_the_key_itself(s3: Any) -> None:
    keys = Keys(COUNT)
    assert [item["Key"] for item in listed(s3, StartAfter=keys[COUNT - 3])[0]] == [keys[COUNT - 2], keys[COUNT - 1]]
    assert listed(s3, Prefix="other/") == ([], [])


@pytest.mark.slow
def test_an_object_has_a_size_but_cannot_be_read(s3: Any) -> None:
    keys = Keys(COUNT)
    assert s3.head_object(Bucket="bucket", Key=keys[1_234])["ContentLength"] == keys.size(1_234)
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket="bucket", Key="data")
    with pytest.raises(ClientError, match="NotImplemented"):
        s3.get_object(Bucket="bucket", Key=keys[0])


def test_names_are_escaped_where_the_client_does_not_ask_for_url_encoding() -> None:
    page = list_page(Keys(COUNT), {"prefix": "data/Pêche & Cie 000/", "max-keys": "1"}, "bucket")
    assert "<Key>data/Pêche &amp; Cie 000/00000000.jpg</Key>" in page
    assert "<IsTruncated>true</IsTruncated>" in page
