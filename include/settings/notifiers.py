"""The failure notifier of a deployment."""

from __future__ import annotations

import importlib
from typing import Any

from include.settings.deployment import Settings, SettingsError


def failure_notifier(settings: Settings) -> Any | None:
    """Return the notifier that ``FRUITS_FAILURE_NOTIFIER`` names, or None.

    Raises
    ------
    SettingsError
        If the notifier cannot be imported, or does not accept its arguments.
    """
    if settings.failure_notifier is None:
        return None
    path, arguments = settings.failure_notifier.path, settings.failure_notifier.arguments
    try:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)(**arguments)
    except (ImportError, AttributeError, TypeError) as error:
        raise SettingsError([f"FRUITS_FAILURE_NOTIFIER: {path}(**{arguments!r}) failed: {error}"]) from error
