"""The plugin that adds the project's pages to the Airflow UI: in the navigation, and as a tab on each run's page."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


class FruitReportsPlugin(AirflowPlugin):
    """The pages, and the places where the UI shows them.

    Every task loads every plugin, and only the API server needs the pages: their imports, which take seconds, are in
    the properties.
    """

    name = "fruit_reports"

    def __init__(self) -> None:
        self._views: list[Any] = []

    @property
    def external_views(self) -> list[Any]:  # type: ignore[override]
        """The entry in the navigation and the tab; the UI fills in the ids, percent-encoded."""
        from include.settings.addresses import page_path

        if not self._views:
            self._views += [
                {
                    "name": "Fruit features",
                    "href": page_path(),
                    "destination": "nav",
                    "category": "browse",
                    "url_route": "fruit-features",
                },
                {
                    "name": "Fruit report",
                    "href": page_path("run?dag_id={DAG_ID}&run_id={RUN_ID}"),
                    "destination": "dag_run",
                    "url_route": "fruit-report",
                },
            ]
        return self._views

    @property
    def fastapi_apps(self) -> list[Any]:  # type: ignore[override]
        """The web application."""
        from include.pages.app import app
        from include.settings.addresses import PAGES

        return [{"app": app, "url_prefix": PAGES, "name": "Fruit features"}]
