"""The person who holds, approves and cancels orders here; a user without a password."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission

APPROVER = "orders-approver"


def approver() -> Any:
    """That user, with the permission for it."""
    users: Any = get_user_model()._default_manager
    user, made = users.get_or_create(username=APPROVER)
    if made:
        user.set_unusable_password()
        user.save()
    permission = Permission.objects.get(
        content_type__app_label="testapp", codename="approve_tradeorder"
    )
    user.user_permissions.add(permission)
    return user
