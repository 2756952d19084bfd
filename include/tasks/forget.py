"""The task of ``fruit_forget``."""

from __future__ import annotations

import logging
from typing import TypedDict

from airflow.sdk import get_current_context

from include.erasure.request import read_request
from include.lake.layout import Lake
from include.residency.preflight import check_residency
from include.settings.deployment import read_airflow_settings
from include.tasks.failures import without_retry

log = logging.getLogger(__name__)


class Erased(TypedDict):
    """What the task returns; it names no photo."""

    erasure: str
    receipt: str
    """URI of the receipt."""
    photos: int


@without_retry
def forget_photos() -> Erased:
    """Erase the photos that the form names, and everything derived from them.

    Raises
    ------
    AirflowFailException
        If the form names nothing that is in the lake, if nothing would be left, if no state is published, or if
        anything is or may be outside the allowed regions.
    """
    from include.erasure.forget import forget  # loads numpy and pyarrow, which the parsing of DAG files does without
    from include.erasure.receipt import describe_receipt, receipt_path

    settings, params = read_airflow_settings(), get_current_context()["params"]
    lake = Lake(settings.lake_root)
    check_residency(settings, lake)
    request = read_request(lake, params["paths"], params["labels"], keeps_photos=params["keep_photos"])
    receipt = forget(lake, request, settings.kept_states, settings.aws_conn_id)
    for line in describe_receipt(lake, receipt):
        log.info(line)
    uri = receipt_path(lake, receipt["erasure"])
    return {"erasure": receipt["erasure"], "receipt": uri, "photos": len(receipt["photos"])}
