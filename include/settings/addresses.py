"""Addresses on the host of the Airflow UI: of Airflow itself, and of the project's pages in it."""

from __future__ import annotations

from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import conf

PAGES = "/fruit-reports"
"""Path of the project's pages. Links to it are stored with task instances, so it stays as it is."""


def airflow_path(path: str) -> str:
    """Return the path of an Airflow page, without host and port: links are stored, and both may change.

    Parameters
    ----------
    path : str
        The path below ``[api] base_url``, with its leading slash.
    """
    return str(urlsplit(conf.get("api", "base_url", fallback="")).path).rstrip("/") + path


def page_path(path: str = "") -> str:
    """Return the path of one of the project's pages; ``path`` is relative to :data:`PAGES`."""
    return airflow_path(f"{PAGES}/{path}")
