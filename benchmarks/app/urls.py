"""No pages: those of the test project are of its own models."""

from __future__ import annotations

from typing import Any

urlpatterns: list[Any] = []
