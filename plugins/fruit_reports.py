"""The page of reports in the Airflow UI: its place and its entry in the navigation."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

URL_PREFIX = "/fruit-reports"


class FruitReportsPlugin(AirflowPlugin):
    """Adds the page, and its entry in the navigation."""

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
        """The application; only the API server asks for it, and every task would pay seconds for its imports."""
        from include.reports.page import app

        return [{"app": app, "url_prefix": URL_PREFIX, "name": "Fruit reports"}]
