"""Logs: files on this machine during a step, delivered in compressed form to the cluster's ``LogUri`` at its end.

The folders are EMR's (EMR Management Guide, «View log files»): ``<cluster>/steps/<step>``,
``<cluster>/containers/<application>/<container>`` and ``<cluster>/node/<instance>/bootstrap-actions/1``.
"""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path

from local.emr.faults.faults import Faults
from local.emr.options import Options

logger = logging.getLogger(__name__)

LOG_NAMES = ("stdout", "stderr", "controller")
TAIL_BYTES = 64 * 1024


def log_folder(log_uri: str, cluster_id: str, *parts: str) -> str:
    """Return the URI of a folder of a cluster's logs: ``s3://`` for ``s3n://``. ``log_uri`` is not URL-decoded."""
    root = log_uri.replace("s3n://", "s3://", 1) if log_uri.startswith("s3n://") else log_uri
    return "/".join([root.rstrip("/"), cluster_id, *parts])


def tail(path: Path) -> str:
    """Return the end of a text file; empty if the file does not exist."""
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
        return stream.read().decode("utf-8", errors="replace")


def files_in(folder: Path) -> dict[str, Path]:
    """Return all files under a folder by their relative paths; empty if the folder does not exist."""
    return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


class LogDelivery:
    """The delivery of the logs of a cluster, which a fault may delay or refuse.

    Parameters
    ----------
    cluster_name : str
        The name of the cluster, which the rules of faults match.
    options : Options
        The endpoint's settings.
    faults : Faults
        The faults to inject.
    """

    def __init__(self, cluster_name: str, options: Options, faults: Faults) -> None:
        self._cluster_name = cluster_name
        self._options = options
        self._faults = faults

    def deliver(self, files: Mapping[str, Path], uri: str) -> None:
        """Copy files in compressed form to their destination. A failure is logged, not raised.

        Parameters
        ----------
        files : mapping of str to Path
            The files by their names at the destination, without ``.gz``.
        uri : str
            ``file:///…`` or ``s3://bucket/…`` folder, as :func:`log_folder` returns it.
        """
        fault = self._faults.for_logs(self._cluster_name)
        if fault is None:
            deliver(files, uri)
        elif fault.refused:
            logger.error("the logs were not delivered to %s: a fault refuses them", uri)
        else:
            timer = threading.Timer(self._options.shorten(fault.delay_seconds), deliver, (files, uri))
            timer.daemon = True  # an endpoint that stops does not deliver them, like EMR after the loss of a node
            timer.start()


def deliver(files: Mapping[str, Path], uri: str) -> None:
    """Copy files in compressed form to a folder (see :class:`LogDelivery`)."""
    try:
        if uri.startswith("file:///"):
            _deliver_to_folder(files, Path(uri.removeprefix("file://")))
        else:
            _deliver_to_s3(files, uri)
    except OSError as error:
        # The step does not fail: EMR too may fail to deliver logs.
        logger.error("the logs were not delivered to %s: %s", uri, error)


def _deliver_to_folder(files: Mapping[str, Path], target: Path) -> None:
    for name, source in files.items():
        destination = target / f"{name}.gz"
        destination.parent.mkdir(parents=True, exist_ok=True)
        temporary = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}")
        with source.open("rb") as plain, gzip.open(temporary, "wb") as compressed:
            shutil.copyfileobj(plain, compressed)
        temporary.replace(destination)


def _deliver_to_s3(files: Mapping[str, Path], uri: str) -> None:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        logger.warning("logs were not delivered to %s: set AWS_ENDPOINT_URL_S3 (the endpoint never calls AWS)", uri)
        return
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, key = uri.partition("://")[2].partition("/")
    # Named explicitly: AWS_IGNORE_CONFIGURED_ENDPOINT_URLS would send the request to AWS.
    client = boto3.client("s3", endpoint_url=endpoint, region_name=os.environ.get("AWS_REGION", "eu-west-3"))
    try:
        for name, source in files.items():
            client.put_object(Bucket=bucket, Key=f"{key}/{name}.gz", Body=gzip.compress(source.read_bytes()))
    except (BotoCoreError, ClientError) as error:
        logger.error("the logs were not delivered to %s: %s", uri, error)
