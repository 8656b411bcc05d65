"""Durations and moments as people read them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.forms import Media
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_fsmworker import clock
from django_fsmworker.models.discovery import write_database

UNITS = (
    (86_400, _("%(count)d d")),
    (3_600, _("%(count)d h")),
    (60, _("%(count)d min")),
    (1, _("%(count)d s")),
)


def duration(seconds: float) -> str:
    """``seconds`` in the largest unit of which there are two: ``90 s``, ``5 min``, ``47 h``."""
    whole = max(round(seconds), 0)
    size, words = next((unit for unit in UNITS if whole >= 2 * unit[0]), UNITS[-1])
    return str(words) % {"count": round(whole / size)}


def moment(when: datetime) -> str:
    """``when`` in the time zone of whoever is looking, to the second: logs are compared with it."""
    local = localtime(when)
    return f"{date_format(local)}, {local:%H:%M:%S}"


def at(words: str, when: datetime) -> SafeString:
    """``words``, with the moment that they stand for where the pointer rests on them."""
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', when.isoformat(), moment(when), words
    )


def ago(when: datetime) -> SafeString:
    """How long ago that was, by this machine's clock."""
    passed = duration((clock.now() - when).total_seconds())
    return at(gettext("%(age)s ago") % {"age": passed}, when)


def folded(text: str) -> SafeString:
    """A text for a column of a list, in lines where it is long."""
    return format_html('<span class="fsmworker-long">{}</span>', text)


if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ModelAdminPart = ModelAdmin
else:
    ModelAdmin = admin.ModelAdmin
    # A part has no base of its own: it can be put before any admin class.
    ModelAdminPart = object


STYLES = ["django_fsmworker/admin.css", "django_fsmworker/diagram.css"]
SCRIPTS = ["django_fsmworker/shortcuts.js"]


class StyledPart(ModelAdminPart):
    """The style of badges, panels, tables and drawings of an admin's pages; keyboard shortcuts."""

    @property
    def media(self) -> Media:
        """Django's own files, that style, and a script that nothing needs."""
        return super().media + Media(css={"all": STYLES}, js=SCRIPTS)


def posted(request: HttpRequest, name: str) -> str:
    """A text that is posted, without the character that no database takes."""
    return request.POST.get(name, "").replace("\0", "")


def reason_of(request: HttpRequest) -> str:
    """The reason that was given with what is posted."""
    return posted(request, "reason").strip()[:500]


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


def shown_as(site: AdminSite, model: Any) -> Any:
    """As what ``site`` has the rows of ``model``: as that, or as a proxy; None if as neither."""
    if model is None or site.is_registered(model):
        return model
    proxies = [each for each in site._registry if each._meta.proxy]
    own = [each for each in proxies if each._meta.concrete_model is model]
    return min(own, key=lambda each: each._meta.label, default=None)


def model_of(label: str) -> Any:
    """The installed model of that label; None if it is gone."""
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None


def written_in(model_admin: Any, request: HttpRequest) -> str:
    """The database with the rows that an admin shows, as actions write it."""
    return write_database(model_admin.get_queryset(request))


def may_see_tracebacks(request: HttpRequest) -> bool:
    """Whether this user has the permission to see tracebacks, which may quote a row's data."""
    return request.user.has_perm("django_fsmworker.view_traceback")
