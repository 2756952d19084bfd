"""Quiet creation of AWS clients in tasks that create one at each poll."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import BaseSessionFactory
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

LOGGERS = ("airflow.providers.amazon.aws.clients", "botocore.configprovider", "botocore.credentials")
"""What logs, at the level INFO, where each new client has its credentials and its endpoint from."""

CLASSES: tuple[Any, ...] = (BaseSessionFactory, AwsConnectionWrapper)
"""The provider's classes that do the same. Airflow's own loggers have no level that a task can change, but a class may
have a logger of the standard library instead."""


@contextmanager
def quiet_clients() -> Iterator[None]:
    """Log only warnings and errors of the creation of clients within the ``with`` block.

    A sensor in reschedule mode creates a client at each poke. :func:`include.aws.endpoints.check_endpoint` checks the
    endpoint, and a wrong source of credentials shows as an error of the first request.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    own = [logged._log for logged in CLASSES]
    for logger in loggers:
        logger.setLevel(max(logger.level, logging.WARNING))
    for logged in CLASSES:
        logged._log = loggers[0]
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for logged, logger in zip(CLASSES, own, strict=True):
            logged._log = logger
