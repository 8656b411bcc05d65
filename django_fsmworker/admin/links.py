"""Addresses of pages in the admin, for those who may see them."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse


def change_url(site: AdminSite, request: HttpRequest, model: Any, pk: Any) -> str | None:
    """The page of one row in ``site``; None if there is none or this user may not see it."""
    if not site.is_registered(model):
        return None
    if not site.get_model_admin(model).has_view_or_change_permission(request):
        return None
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
    try:
        return reverse(name, args=[quote(pk)], current_app=site.name)
    except NoReverseMatch:  # An empty key, or a site without addresses.
        return None


def model_of(label: str) -> Any:
    """The installed model of that label; None if it is gone."""
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None


def may_see_tracebacks(request: HttpRequest) -> bool:
    """Tracebacks quote code, and at times what it was working on: they need a permission."""
    return request.user.has_perm("django_fsmworker.view_traceback")
