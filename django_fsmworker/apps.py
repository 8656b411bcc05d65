"""The Django application."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class FSMWorkerConfig(AppConfig):
    """Opens the door from models to the engine and registers the system checks."""

    name = "django_fsmworker"
    label = "django_fsmworker"
    verbose_name = _("Row lives")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_fsmworker import checks
        from django_fsmworker.models import door
        from django_fsmworker.runner.inline import InlineEngine

        door.install(InlineEngine())
        checks.register()
