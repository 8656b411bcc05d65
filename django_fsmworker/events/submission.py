"""What is asked for when an event is submitted, and whether it can be had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.core.signals import setting_changed
from django.db import router
from django.utils import timezone

from django_fsmworker import clock
from django_fsmworker.conf import EventSettings, RunnerSettings
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.graph.durations import LONGEST, Duration, as_seconds
from django_fsmworker.models.choosing import is_permitted, user_in
from django_fsmworker.models.contexts import context_of
from django_fsmworker.models.event import DEFAULT_ATTEMPTS, named
from django_fsmworker.models.fields import has_life
from django_fsmworker.models.keys import LONGEST_KEY, declaring_model, has_key, key_of
from django_fsmworker.models.refusals import not_allowed
from django_fsmworker.traces import current_trace

MOST_ATTEMPTS = 32767
LONGEST_NAME = 255


@dataclass(frozen=True)
class Submission:
    """An event to be submitted: one of those that ``submit_events()`` takes.

    Args:
        target: The row: an instance, or its model (or the model's label) and its primary key.
        trigger: The name of the event, which the row's graph declares.
        context: What the condition and the action find in ``event.context``; of what JSON can
            hold, as Django's encoder writes it, with text for keys.
        fires_at: When it is to be delivered; an aware ``datetime``. At once by default.
        delay: The same from now on, by the database's clock: seconds or a ``timedelta``.
        idempotency_key: A second event with the same key for the same model is not written.
        max_attempts: Failures of its action in a row after which it has failed for good.
        expires_in: Time from now after which it is discarded if it is not delivered yet: seconds
            or a ``timedelta``. It waits for ever by default.
        by: Who submits it: a user (of ``AUTH_USER_MODEL``), whose permissions count when it is
            submitted and when it is delivered, or the name of a program. None is the program
            itself.
    """

    target: Any
    trigger: str
    context: Mapping[str, Any] | None = None
    _: KW_ONLY
    fires_at: datetime | None = None
    delay: Duration | None = None
    idempotency_key: str | None = None
    max_attempts: int = DEFAULT_ATTEMPTS
    expires_in: Duration | None = None
    by: Any = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A submission that was found to be in order: what its record will say."""

    model: Any
    using: str
    columns: dict[str, Any]
    fires_at: datetime | None
    delay: float
    expires_in: float | None


def checked(submission: Submission, using: str | None) -> Checked:
    """Raise what is wrong with a submission, before anything is written.

    ``using`` is the alias of a database; by default it is that to which the target is written.
    """
    if not isinstance(submission, Submission):
        raise TypeError(f"{submission!r} is no Submission; give Submission(target, trigger, …).")
    model, key, row = _found(submission.target)
    alias = using or router.db_for_write(
        model if row is None else type(row), **({} if row is None else {"instance": row})
    )
    columns = {**of_row(model, key), **common(submission, model, row)}
    return Checked(model, alias, columns, submission.fires_at, *times(submission))


def of_row(model: Any, key: Any) -> dict[str, Any]:
    """The columns that say whose event it is."""
    name, number = named(model, key)
    if len(str(key)) > LONGEST_KEY:
        raise ValueError(
            f"The primary key of {model._meta.label} {name} has more than {LONGEST_KEY} "
            f"characters; rows with such keys can be sent events by state_send() only."
        )
    return {"row": name, "row_hash": number}


def common(submission: Submission, model: Any, row: Any = None) -> dict[str, Any]:
    """The columns that do not depend on the row; ``row`` is the instance, if there is one."""
    refuse_unknown(model, submission.trigger)
    _refuse_unpermitted(submission, model, row)
    by, by_pk = _who(submission.by)
    attempts = submission.max_attempts
    if type(attempts) is not int or not 1 <= attempts <= MOST_ATTEMPTS:
        raise ValueError(f"max_attempts={attempts!r} is no whole number from 1 to {MOST_ATTEMPTS}.")
    key = submission.idempotency_key
    return {
        "model": model._meta.label,
        "trigger": submission.trigger,
        "context": _storable(submission),
        "by": by,
        "by_pk": by_pk,
        "max_attempts": attempts,
        "idempotency_digest": None if key is None else _digest(key),
        "idempotency_key": "" if key is None else key[:LONGEST_NAME],
        "trace": (current_trace() or None) if _keeps_traces() else None,
    }


def times(submission: Submission) -> tuple[float, float | None]:
    """The seconds until it fires, and until it expires."""
    moment: Any = submission.fires_at
    delay = submission.delay
    if moment is not None:
        if delay is not None:
            raise ValueError("fires_at and delay say the same; give one of them.")
        if not isinstance(moment, datetime) or timezone.is_naive(moment):
            raise ValueError(
                f"fires_at={moment!r} is no datetime with a time zone; give one, such as "
                f"timezone.now() + timedelta(hours=1)."
            )
        if abs((moment - clock.now()).total_seconds()) > LONGEST:
            raise ValueError(f"fires_at={moment} is more than 100 years away; give another moment.")
    seconds = 0.0 if delay is None else as_seconds(delay, "delay")
    if submission.expires_in is None:
        return seconds, None
    expires = as_seconds(submission.expires_in, "expires_in", above_zero=True)
    if expires <= seconds:
        raise ValueError(
            f"delay={delay!r} is not below expires_in={submission.expires_in!r}, so the event "
            f"would expire before it fires; both count from now."
        )
    if moment is not None and moment >= clock.now() + timedelta(seconds=expires):
        raise ValueError(
            f"fires_at={moment} is not before the end of expires_in={submission.expires_in!r}, "
            f"which counts from now, so the event would expire before it fires."
        )
    return seconds, expires


def refuse_unknown(model: Any, trigger: str) -> None:
    """Raise ``NotAllowed`` for an event that the graph of ``model`` does not declare."""
    graph = model.state_graph
    if trigger not in graph.triggers:
        known = ", ".join(sorted(graph.triggers)) or "none"
        raise not_allowed(
            f"{model._meta.label} takes no event {trigger!r}; those that {graph.__name__} "
            f"declares: {known}.",
            "unknown_event",
        )


def _found(target: Any) -> tuple[Any, Any, Any]:
    """The model that declares the state, the row's key there, and the instance if there is one."""
    if isinstance(target, tuple):
        if len(target) != 2:
            raise TypeError(f"{target!r} is no target; give a row, or its model and its key.")
        model, key = target
        model = _labelled(model) if isinstance(model, str) else model
        _refuse_lifeless(model)
        owner = declaring_model(model)
        return owner, _as_key(owner, key), None
    _refuse_lifeless(type(target))
    if not has_key(target):
        raise ValueError(f"{target!r} has no primary key yet; save it before it is sent events.")
    return declaring_model(type(target)), key_of(target), target


def _labelled(label: str) -> Any:
    try:
        return apps.get_model(label)
    except (LookupError, ValueError) as error:
        raise LookupError(f"{label!r} is the label of no model; give app.Model.") from error


def _refuse_lifeless(model: Any) -> None:
    if not (isinstance(model, type) and has_life(model)):
        name = getattr(model, "__name__", repr(model))
        raise TypeError(f"{name} is no StatorModel; only rows with a state graph take events.")


def _as_key(model: Any, key: Any) -> Any:
    fields = getattr(model._meta.pk, "fields", None)
    try:
        if fields is None:
            return _as_part(model._meta.pk, key)
        return tuple(_as_part(each, part) for each, part in zip(fields, key, strict=True))
    except (TypeError, ValueError, ValidationError) as error:
        raise ValueError(f"{key!r} is no primary key of {model._meta.label}.") from error


def _as_part(field: Any, value: Any) -> Any:
    if value is None:  # that of a row which is not saved yet
        raise ValueError
    return field.to_python(value)


def _refuse_unpermitted(submission: Submission, model: Any, row: Any) -> None:
    """Raise ``NotAllowed`` if no state has a transition of this event that the user may take.

    The one that the row is in when it is delivered decides then. What depends on the row is asked
    only where the row is given.
    """
    user, trigger = user_in(submission.by), submission.trigger
    if user is None:
        return
    states = model.state_graph.states.values()
    edges = [edge for state in states for edge in state.events.get(trigger, ())]
    if any(may_be_permitted(edge, row, user) for edge in edges):
        return
    raise not_allowed(
        f"{model._meta.label} does not take {trigger} from {user}, who has not the permission for "
        f"it in any state.",
        "permission",
    )


def may_be_permitted(edge: Any, row: Any, user: Any) -> bool:
    """Whether ``user`` may take ``edge``; true where only the row could tell, and is not given."""
    named_by_django = isinstance(edge.permission, str) and "." in edge.permission
    if row is None and edge.permission is not None and not named_by_django:
        return True
    return is_permitted(edge, row, user)


def _who(by: Any) -> tuple[str, str | None]:
    """What the record says of who submits: the text to show, and the user's key."""
    if by is None:
        return "", None
    name = _text("by", str(by))[:LONGEST_NAME]
    if user_in(by) is None:
        return name, None
    key = getattr(by, "pk", None)
    if key is None:
        return name, ""
    _refuse_stranger(by)
    return name, str(key)


def _refuse_stranger(by: Any) -> None:
    """Raise ``TypeError`` for a user of another kind: its key is that of somebody else there."""
    from django.contrib.auth import get_user_model

    users = get_user_model()
    if not isinstance(by, users):
        raise TypeError(
            f"by={by!r} is no {users._meta.label}, which is what the delivery loads again to ask "
            f"for its permissions; give such a user, or the name of a program."
        )


def _digest(key: Any) -> str:
    if not isinstance(key, str) or not key:
        raise TypeError(f"idempotency_key={key!r} is no text; give a str that is not empty.")
    return sha256(_text("idempotency_key", key).encode()).hexdigest()


def _text(name: str, text: str) -> str:
    """``text``, once it is known that every database takes it."""
    if "\0" in text or (not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text)):
        raise ValueError(
            f"{name}={text!r} has a NUL character or half a surrogate pair, which PostgreSQL "
            f"cannot store; take it out."
        )
    return text


def _storable(submission: Submission) -> dict[str, Any]:
    """The context, once it is known that every database takes it."""
    found = context_of(submission.trigger, submission.context)
    if not found:
        return found
    try:
        text = json.dumps(found, cls=DjangoJSONEncoder, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"The context of {submission.trigger} cannot be stored as JSON ({error}); give "
            f"numbers, text, dates, and lists and mappings of them."
        ) from error
    if "\\u0000" in text or "\\ud" in text:
        _refuse_unstorable_text(submission.trigger, text)
    if len(text) > (most := _most_bytes()):
        raise ValueError(
            f"The context of {submission.trigger} takes {len(text)} bytes as JSON, and {most} are "
            f"allowed; store the data in a row and pass its key, or raise "
            f'settings.FSMWORKER["MAX_EVENT_CONTEXT"].'
        )
    return found


def _refuse_unstorable_text(trigger: str, text: str) -> None:
    plain = json.dumps(json.loads(text), ensure_ascii=False)
    if "\\u0000" in plain.replace("\\\\", "") or any(
        "\ud800" <= each <= "\udfff" for each in plain
    ):
        raise ValueError(
            f"The context of {trigger} has text with a NUL character or half a surrogate pair, "
            f"which PostgreSQL cannot store as JSON; take it out."
        )


@cache
def _most_bytes() -> int:
    return EventSettings.load().max_event_context


@cache
def _keeps_traces() -> bool:
    try:
        return RunnerSettings.load().traces
    except ConfigurationError:  # said by manage.py check and by the runner
        return False


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting.startswith("FSMWORKER"):
        _most_bytes.cache_clear()
        _keeps_traces.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_fsmworker.events")
