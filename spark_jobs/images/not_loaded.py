"""The record of the files that ``make run`` did not load into the folder of images."""

from __future__ import annotations

from typing import cast, get_type_hints

from spark_jobs.args import NOT_LOADED_FILE
from spark_jobs.errors import JobError
from spark_jobs.lake import storage
from spark_jobs.lake.object_store import OpenBucket, open_bucket
from spark_jobs.records import LeftOut


def read(images: str, buckets: OpenBucket = open_bucket) -> LeftOut:
    """Return the record in a folder of images.

    Raises
    ------
    JobError
        If the file is damaged.
    """
    uri = storage.join(images, NOT_LOADED_FILE)
    try:
        record: object = storage.read_json(uri, buckets)
    except ValueError as error:
        raise JobError(f"{uri} is not JSON ({error}): delete it, or load the images again") from None
    if not isinstance(record, dict) or set(record) != set(get_type_hints(LeftOut)):
        raise JobError(f"{uri} is not the record that make run writes: delete it, or load the images again")
    return cast(LeftOut, record)
