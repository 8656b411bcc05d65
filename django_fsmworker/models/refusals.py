"""What the people who use an application are told when a row may not be moved."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

from django_fsmworker.exceptions import NotAllowed, Refusal

FOR_USERS: dict[Refusal, Any] = {
    "unknown_event": _("There is no such action."),
    "source_state": _("This cannot be done in the present state."),
    "condition": _("What this needs is not fulfilled yet."),
    "permission": _("You are not allowed to do this."),
    "running": _("This is being worked on. Try again in a moment."),
}


def not_allowed(message: str, reason: Refusal) -> NotAllowed:
    """The exception to raise; ``message`` is a sentence for developers and logs."""
    return NotAllowed(message, reason, FOR_USERS[reason])
