"""The failure notifier that a deployment names."""

from __future__ import annotations

import json

import pytest

from include.settings.deployment import Settings, SettingsError, read_settings
from include.settings.notifiers import failure_notifier


def settings_for(path: str, arguments: dict[str, object]) -> Settings:
    return read_settings({"FRUITS_FAILURE_NOTIFIER": json.dumps({"path": path, "arguments": arguments})})


def test_no_notifier_is_set_by_default() -> None:
    assert failure_notifier(Settings()) is None


def test_notifier_gets_its_arguments() -> None:
    from airflow.providers.amazon.aws.notifications.sns import SnsNotifier

    notifier = failure_notifier(
        settings_for(
            "airflow.providers.amazon.aws.notifications.sns.SnsNotifier",
            {"target_arn": "arn:aws:sns:eu-west-3:1:fruits", "message": "failed"},
        )
    )
    assert isinstance(notifier, SnsNotifier)
    assert notifier.target_arn == "arn:aws:sns:eu-west-3:1:fruits"


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("no.such.module.Notifier", {}),
        ("airflow.sdk.NoSuchNotifier", {}),
        ("airflow.providers.amazon.aws.notifications.sns.SnsNotifier", {"no_such_argument": 1}),
    ],
)
def test_notifier_that_fails_to_load_is_named_with_the_reason(path: str, arguments: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=rf"FRUITS_FAILURE_NOTIFIER: {path}\(.*failed: ."):
        failure_notifier(settings_for(path, arguments))
