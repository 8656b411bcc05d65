"""Which permissions there are, as far as Django's own back ends decide."""

from __future__ import annotations

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_permission_codename

OWN_BACKENDS = "django.contrib.auth.backends."


def is_unknown_permission(name: str) -> bool:
    """Whether ``app.codename`` is no permission that a model declares.

    Other back ends may know more, and a name without a dot is that of the graph's own method.
    """
    label, dot, codename = name.partition(".")
    if not dot or not apps.is_installed("django.contrib.auth"):
        return False
    if not all(each.startswith(OWN_BACKENDS) for each in settings.AUTHENTICATION_BACKENDS):
        return False
    for model in apps.get_models():
        meta = model._meta
        if meta.app_label == label:
            declared = {get_permission_codename(each, meta) for each in meta.default_permissions}
            if codename in declared | {each for each, _ in meta.permissions}:
                return False
    return True
