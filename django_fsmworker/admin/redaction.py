"""What the project lets these pages show of texts that may quote a row's data.

Whatever a page shows of such a text goes through here, and then through Django's escaping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from django.utils.translation import gettext

from django_fsmworker.conf import AdminSettings, imported
from django_fsmworker.logs import logger_for
from django_fsmworker.models.explanation import Reason

logger = logger_for(__name__)

Redact = Callable[[str, str, Any], str]
"""Called with the kind of a text, the text, and the record or the row that it is of."""


def is_redacting() -> bool:
    """Whether the project has named a function for this."""
    return AdminSettings.load().admin_redact is not None


def redactor() -> Redact:
    """What each text of a page is to go through; the texts stay as they are without the setting."""
    path = AdminSettings.load().admin_redact
    if path is None:
        return lambda kind, text, record: text

    def redact(kind: str, text: str, record: Any) -> str:
        return _told(path, kind, text, record) if text else text

    return redact


def redacted(kind: str, text: str, record: Any) -> str:
    """One text as it may be shown."""
    return redactor()(kind, text, record)


def redact_fields(record: Any, kinds: dict[str, str], redact: Redact) -> None:
    """Replace the fields named by ``kinds`` in a record that is shown, and not saved.

    Those that were not loaded are left alone. The function sees the record as it was.
    """
    loaded = {name: kind for name, kind in kinds.items() if name in record.__dict__}
    shown = {name: redact(kind, getattr(record, name), record) for name, kind in loaded.items()}
    record.__dict__.update(shown)


def redacted_reasons(reasons: Iterable[Reason], row: Any) -> tuple[Reason, ...]:
    """The reasons of an explanation, whose sentences quote errors and what people have written."""
    redact = redactor()
    return tuple(
        replace(each, sentence=redact("explanation", each.sentence, row)) for each in reasons
    )


def _told(path: str, kind: str, text: str, record: Any) -> str:
    """What the function of the project makes of the text; nothing of it is shown if that fails."""
    try:
        told: Any = imported(path, "ADMIN_REDACT")(kind, text, record)
        # A plain copy, which templates escape also where this is marked as safe.
        return str.__str__(told)
    except Exception:
        logger.exception(
            "ADMIN_REDACT has failed for a text of the kind %s, which is not shown.",
            kind,
            extra={"action": "redact_failed"},
        )
        return gettext("(not shown: what redacts it has failed)")
