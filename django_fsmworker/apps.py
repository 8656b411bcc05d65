"""The Django application."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from django_fsmworker.missing_driver import require_drivers


class FSMWorkerConfig(AppConfig):
    """Installs the engine that the models call, and registers the system checks."""

    name = "django_fsmworker"
    label = "django_fsmworker"
    verbose_name = _("Row lives")
    default_auto_field = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: Any) -> None:
        super().__init__(app_name, app_module)
        require_drivers()  # the first model to be loaded asks for a connection

    def ready(self) -> None:
        from django_fsmworker import checks
        from django_fsmworker.models import state_serializer
        from django_fsmworker.models.engine import install
        from django_fsmworker.runner.inline import InlineEngine

        install(InlineEngine())
        checks.register()
        state_serializer.register()
