"""Pages that only show, by the setting ``ADMIN_READ_ONLY``: no buttons, and 403 for who posts."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext

from django_fsmworker.admin.formatting import ModelAdminPart
from django_fsmworker.conf import AdminSettings

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def is_read_only() -> bool:
    """Whether the project wants these pages only to show, at this moment."""
    return AdminSettings.load().admin_read_only


def may(request: HttpRequest, permission: str) -> bool:
    """Whether this user may do what takes that permission, and these pages let anybody do it."""
    return request.user.has_perm(permission) and not is_read_only()


class ReadOnlyMode(ModelAdminPart):
    """The part of an admin that obeys that setting, for all addresses of the admin."""

    @property
    def urls(self) -> Any:
        """The addresses of the admin, each of which refuses what is posted while it only shows."""
        return [_refusing(each) for each in super().urls]

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return not is_read_only() and super().has_add_permission(request, *args)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not is_read_only() and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return not is_read_only() and super().has_delete_permission(request, obj)


def _refusing(pattern: Any) -> Any:
    if callable(getattr(pattern, "callback", None)):
        pattern.callback = _unless_read_only(pattern.callback)
    return pattern


def _unless_read_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    @wraps(view)
    def look(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method not in SAFE_METHODS and is_read_only():
            raise PermissionDenied(gettext("These pages only show at the moment."))
        return view(request, *args, **kwargs)

    return look
