"""Who submitted events: loaded again, so that permissions are those of the moment of delivery."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.core.exceptions import ValidationError

from django_fsmworker.models.event import Event

Sender = tuple[Any, Any]
"""What ``event.by`` is, and the user whose permissions count; None where none do."""


def senders_of(events: Iterable[Event]) -> dict[int, Sender]:
    """The sender of each event, by its key; one query for all users."""
    events = list(events)
    wanted = {event.by_pk for event in events if event.by_pk}
    users = _users(wanted) if wanted else {}
    return {event.pk: _sender(event, users) for event in events}


def _sender(event: Event, users: dict[str, Any]) -> Sender:
    if event.by_pk is None:
        return event.by or None, None
    user = users.get(event.by_pk)
    if user is None:  # gone, or nobody in particular: whoever that is has no permissions
        from django.contrib.auth.models import AnonymousUser

        return event.by, AnonymousUser()
    return user, user


def _users(keys: Iterable[str]) -> dict[str, Any]:
    from django.contrib.auth import get_user_model

    model = get_user_model()
    known = []
    for key in keys:
        with suppress(ValidationError):  # the project had another model of users then
            known.append(model._meta.pk.to_python(key))
    found = model._base_manager.in_bulk(known)
    return {str(key): user for key, user in found.items()}
