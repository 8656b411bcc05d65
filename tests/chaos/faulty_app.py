"""An app that makes statements of its process fail, from the first connection on."""

from __future__ import annotations

from django.apps import AppConfig


class FaultyConfig(AppConfig):
    name = "tests.chaos"
    label = "chaos"

    def ready(self) -> None:
        from tests.chaos.faults import from_environment

        from_environment()
