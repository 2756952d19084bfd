"""The plugin that adds the page of reports to the Airflow UI and to its navigation."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

URL_PREFIX = "/fruit-reports"


class FruitReportsPlugin(AirflowPlugin):
    """The page of reports and its entry in the navigation."""

    name = "fruit_reports"
    external_views: list[Any] = [  # noqa: RUF012
        {
            "name": "Fruit reports",
            "href": f"{URL_PREFIX}/",
            "destination": "nav",
            "category": "browse",
            "url_route": "fruit-reports",
        }
    ]

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """The web application. It is imported here because only the API server needs it; the imports take seconds."""
        from include.reports.page import app

        return [{"app": app, "url_prefix": URL_PREFIX, "name": "Fruit reports"}]
