"""The models with a life, in the admin."""

from __future__ import annotations

from django.contrib import admin

from django_fsmworker.admin import StatorModelAdmin
from tests.app.models import (
    Account,
    BasicModel,
    Chain,
    Delivery,
    Expiring,
    Hidden,
    Letter,
    Noop,
    RelatedKey,
    TextKey,
    Trouble,
    UUIDKey,
)

admin.site.register(
    [
        Account,
        BasicModel,
        Chain,
        Delivery,
        Expiring,
        Hidden,
        Letter,
        Noop,
        RelatedKey,
        TextKey,
        Trouble,
        UUIDKey,
    ],
    StatorModelAdmin,
)
