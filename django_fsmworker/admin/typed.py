"""``ModelAdmin`` with its model's type, which type checkers want and Django has not at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ModelAdminPart = ModelAdmin
else:
    ModelAdmin = admin.ModelAdmin
    # A part has no base of its own: it can be put before any admin class.
    ModelAdminPart = object
