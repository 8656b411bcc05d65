"""What the project's settings have to say."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error

from django_fsmworker.conf import AdminSettings, RunnerSettings, imported
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.runner.execution.middleware import AttemptMiddleware
from django_fsmworker.runner.hooks import Hooks


def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Called by Django."""
    found: list[CheckMessage] = []
    if not settings.USE_TZ:
        found.append(
            Error(
                "USE_TZ is False, so due times would be ambiguous.",
                hint="Set USE_TZ = True.",
                id="fsmworker.E007",
            )
        )
    try:
        refuse_what_is_missing(RunnerSettings.load())
        refuse_what_the_admin_misses()
    except ConfigurationError as error:
        found.append(Error(str(error), hint="Correct the setting.", id="fsmworker.E008"))
    return found


def refuse_what_is_missing(settings: RunnerSettings) -> None:
    """Raise ``ConfigurationError`` for what the settings name and cannot be imported."""
    AttemptMiddleware.of(settings, "")
    Hooks.of(settings)


def refuse_what_the_admin_misses() -> None:
    """Raise ``ConfigurationError`` for what the admin's settings name and cannot be imported."""
    path = AdminSettings.load().admin_redact
    if path is not None:
        imported(path, "ADMIN_REDACT")


def runner_settings() -> RunnerSettings | None:
    """The runner's settings; None where they are wrong."""
    try:
        return RunnerSettings.load()
    except ConfigurationError:  # Reported by check_settings.
        return None
