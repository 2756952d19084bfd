"""The plugin shows the pages in the navigation and on the page of each run, and costs the tasks nothing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plugin() -> Any:
    """The plugin, loaded by its path as Airflow does."""
    spec = importlib.util.spec_from_file_location("fruit_reports", ROOT / "plugins" / "fruit_reports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FruitReportsPlugin()


def test_the_navigation_and_the_page_of_each_run_lead_to_pages_that_exist(
    plugin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example/team")
    [application] = plugin.fastapi_apps
    views = {view["destination"]: ExternalViewResponse.model_validate(view) for view in plugin.external_views}
    assert views["nav"].href == f"/team{application['url_prefix']}/"
    assert views["dag_run"].href == f"/team{application['url_prefix']}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}"
    assert {"/", "/run"} <= {route.path for route in application["app"].routes}


def test_the_ui_has_both_views(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow import plugins_manager

    plugins, errors = plugins_manager._get_plugins()
    assert errors == {}
    [found] = [item for item in plugins if item.name == "fruit_reports"]
    assert [view["url_route"] for view in found.external_views] == ["fruit-features", "fruit-report"]


def test_plugin_does_not_import_the_web_framework() -> None:
    """Every task loads every plugin; only the API server needs the web framework."""
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('fruit_reports', 'plugins/fruit_reports.py')\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "import airflow.plugins_manager\n"
        "before = set(sys.modules)\n"
        "spec.loader.exec_module(module)\n"
        "loaded = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(loaded & {'fastapi', 'starlette', 'include'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]"), done.stdout
