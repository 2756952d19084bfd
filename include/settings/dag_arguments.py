"""The arguments that both DAGs have in common."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from include.settings.deployment import Settings
from include.settings.notifiers import failure_notifier


def common_arguments(settings: Settings, **of_each_task: Any) -> dict[str, Any]:
    """Return the arguments of ``airflow.sdk.DAG`` that both DAGs have in common.

    Parameters
    ----------
    settings : Settings
        The deployment settings.
    **of_each_task
        More arguments of each task.

    Raises
    ------
    SettingsError
        If the failure notifier cannot be loaded.
    """
    return {
        "start_date": settings.schedule_start,
        "catchup": False,
        "max_active_runs": 1,
        "default_args": {
            "owner": settings.owner,
            "retries": settings.retries,
            "retry_delay": timedelta(seconds=settings.retry_delay_seconds),
            **of_each_task,
        },
        "on_failure_callback": failure_notifier(settings),
    }
