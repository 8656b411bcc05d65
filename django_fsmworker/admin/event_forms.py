"""The form of an event, on the page that asks for it with other things."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.module_loading import import_string

PREFIX = "event"


def event_form(kind: Any, request: HttpRequest) -> Any:
    """A form of this class, or dotted path; filled in if it was shown before.

    Its fields are posted with a prefix: they may be called as those of the page are, ``reason``
    for example.
    """
    form_class = import_string(kind) if isinstance(kind, str) else kind
    form = form_class(request.POST if "confirmed" in request.POST else None)
    form.prefix = form.prefix or PREFIX
    return form


def media_with(page: Any, form: Any) -> Any:
    """The files of a page, and those of the fields of its form, if it has one."""
    return page if form is None else page + form.media
