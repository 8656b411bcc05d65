"""System checks, one module a subject. Each id has a section in docs/reference/checks.md."""

from __future__ import annotations

from django.core import checks
from django.core.checks import Tags

from django_fsmworker.checks.databases import check_databases, check_tables
from django_fsmworker.checks.models import check_models
from django_fsmworker.checks.settings import check_settings

__all__ = ["check_databases", "check_models", "check_settings", "check_tables", "register"]


def register() -> None:
    """Called when the application is ready."""
    checks.register(check_models, Tags.models)
    checks.register(check_settings, Tags.compatibility)
    checks.register(check_databases, Tags.compatibility)
    checks.register(check_tables, Tags.database)
