"""Writing events: in the target's database and the caller's transaction, dated by the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Unpack

from asgiref.sync import sync_to_async
from django.db import connections, models, transaction
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.events.submission import Checked, Submission, checked, common, of_row, times
from django_fsmworker.models.discovery import write_database
from django_fsmworker.models.event import Event
from django_fsmworker.models.evented_model import EventOptions
from django_fsmworker.models.fields import loading
from django_fsmworker.models.functions import SameMoment
from django_fsmworker.models.hints import hint_due
from django_fsmworker.models.keys import declaring_model, is_composite, key_name, portions
from django_fsmworker.store import store_for
from django_fsmworker.store.event_rows import insert_for_rows

MOST_AT_ONCE = 2000


def submit_event(
    target: Any,
    trigger: str,
    context: Mapping[str, Any] | None = None,
    *,
    using: str | None = None,
    **options: Unpack[EventOptions],
) -> int:
    """Write an event for one row, which a runner delivers; the key of its record.

    It is written in the row's database and in the caller's transaction: it exists if and only if
    what else the transaction wrote does. The arguments, and the options (``fires_at``, ``delay``,
    ``idempotency_key``, ``max_attempts``, ``expires_in`` and ``by``), are those of ``Submission``;
    ``using`` is the alias of the database, by default the one that the routers write the row to.

    With an ``idempotency_key`` that an event of the same model has already, nothing is written, and
    the key of that one's record is returned, also if both are submitted at the same moment.

    Raises:
        NotAllowed: The graph declares no such event (``"unknown_event"``), or the user in ``by``
            may send it in no state (``"permission"``). Nothing is written.
        TypeError: The target has no life, the context cannot be stored as JSON, or the user in
            ``by`` is not one of ``AUTH_USER_MODEL``.
        LookupError: The target is named by a label that no model has.
        ValueError: The context is larger than the setting ``MAX_EVENT_CONTEXT``, or an argument is
            out of its range.
    """
    asked = Submission(target, trigger, context, **options)
    one = checked(asked, using)
    if asked.idempotency_key is not None:
        return _write([one], one.using)[0]
    event = _record(one, SameMoment())
    _insert(event, one.using)
    _hint([one], one.using)
    return int(event.pk)


def submit_events(submissions: Iterable[Submission], *, using: str | None = None) -> list[int]:
    """Write many events; the keys of their records, in the order of ``submissions``.

    All are written or none, a few thousand in one statement; where the rows are in several
    databases, that holds for each of them. Events of one row are delivered in the order in which
    they are given here. Raises what ``submit_event()`` raises, before anything is written.
    """
    by_alias: dict[str, list[tuple[int, Checked]]] = {}
    for position, submission in enumerate(submissions):
        one = checked(submission, using)
        by_alias.setdefault(one.using, []).append((position, one))
    keys: dict[int, int] = {}
    for alias, some in by_alias.items():
        written = _write([one for _, one in some], alias)
        keys |= {position: key for (position, _), key in zip(some, written, strict=True)}
    return [keys[position] for position in sorted(keys)]


def submit_for(rows: QuerySet[Any], submission: Submission) -> int:
    """Write an event for each row of a queryset; the number of events.

    One statement reads the rows and writes the events where the primary key is a whole number;
    otherwise the keys are read first.
    """
    alias, owner = write_database(rows), declaring_model(rows.model)
    if submission.idempotency_key is not None:
        raise ValueError(
            "An idempotency key names one event, not those of many rows; leave it out."
        )
    columns, (delay, expires_in) = common(submission, owner), times(submission)
    one = Checked(owner, alias, columns, submission.fires_at, delay, expires_in)
    rows = rows.using(alias)
    if _can_be_read_and_written_at_once(rows, owner):
        number = insert_for_rows(rows, key_name(rows.model), _values(one, SameMoment()))
    else:
        keys = dict.fromkeys(rows.values_list(key_name(rows.model), flat=True))
        each = [replace(one, columns={**columns, **of_row(owner, key)}) for key in keys]
        number = len(_write(each, alias))
    if number:
        _hint([one], alias)
    return number


def _write(each: Sequence[Checked], alias: str) -> list[int]:
    """Insert records, and read the keys of those with an idempotency key."""
    if not each:
        return []
    # Two that submit the same keys wait for each other in one order. What would change the order of
    # a row's events is set right by their times, a microsecond apart.
    step = timedelta(microseconds=any(one.columns["idempotency_digest"] for one in each))
    now = store_for(alias).now()
    records = [_record(one, now + at * step) for at, one in enumerate(each)]
    keyed = sorted(
        (event for event in records if event.idempotency_digest is not None),
        key=lambda event: (event.model, event.idempotency_digest),
    )
    with transaction.atomic(using=alias, savepoint=False):
        plain = [event for event in records if event.idempotency_digest is None]
        events: QuerySet[Event] = QuerySet(Event, using=alias)
        if connections[alias].features.can_return_rows_from_bulk_insert:
            events.bulk_create(plain, batch_size=MOST_AT_ONCE)
        else:
            for event in plain:
                _insert(event, alias)
        first = _write_once(events, keyed)
        _hint(each, alias)
    return [
        int(event.pk or first[event.model, event.idempotency_digest])  # type: ignore[index]
        for event in records
    ]


def _insert(event: Event, alias: str) -> None:
    with loading(event):
        models.Model.save(event, force_insert=True, using=alias)


def _write_once(events: QuerySet[Event], keyed: list[Event]) -> dict[tuple[str, str], int]:
    """Write those whose idempotency key is new; the primary keys of all, whoever wrote them."""
    for some in portions(keyed, MOST_AT_ONCE):
        events.bulk_create(some, ignore_conflicts=True)
    first = _keys_of(events, keyed)
    wanted = {(event.model, str(event.idempotency_digest)): event for event in reversed(keyed)}
    if left := [event for name, event in wanted.items() if name not in first]:
        # At REPEATABLE READ only a locking read sees what others have just committed.
        first |= _keys_of(events.select_for_update(), left)
    for name, event in wanted.items():
        if name not in first:  # the other one was deleted meanwhile, or the database refuses both
            _insert(event, events.db)
            first[name] = int(event.pk)
    return first


def _keys_of(events: QuerySet[Event], keyed: list[Event]) -> dict[tuple[str, str], int]:
    """The keys of the events that have these idempotency keys, as far as they are seen."""
    found: dict[tuple[str, str], int] = {}
    digests: dict[str, list[str]] = {}
    for event in keyed:
        digests.setdefault(event.model, []).append(str(event.idempotency_digest))
    for model, wanted in digests.items():
        for some in portions(wanted, MOST_AT_ONCE):
            known = events.filter(model=model, idempotency_digest__in=some)
            found |= {
                (model, str(digest)): pk
                for digest, pk in known.values_list("idempotency_digest", "pk")
            }
    return found


def _record(one: Checked, now: Any) -> Event:
    return Event(**_values(one, now))


def _values(one: Checked, now: Any) -> dict[str, Any]:
    """The columns of a record; ``now`` is the database's time, or an expression for it."""
    fires_at = one.fires_at
    if fires_at is None:
        fires_at = now + timedelta(seconds=one.delay) if one.delay else now
    expires_in = one.expires_in
    return {
        **one.columns,
        "submitted": now,
        "fires_at": fires_at,
        "state_next": fires_at,
        "expires_at": None if expires_in is None else now + timedelta(seconds=expires_in),
    }


def _hint(each: Iterable[Checked], alias: str) -> None:
    """Tell the runners after the commit, of the first that fires."""
    hint_due(Event, alias, min(_due_in(one) for one in each))


def _due_in(one: Checked) -> float:
    if one.fires_at is None:
        return one.delay
    return max(0.0, (one.fires_at - clock.now()).total_seconds())


def _can_be_read_and_written_at_once(rows: QuerySet[Any], owner: Any) -> bool:
    return (
        not is_composite(owner)
        and isinstance(owner._meta.pk, models.IntegerField)
        and not rows.query.combinator
    )


async def asubmit_event(
    target: Any,
    trigger: str,
    context: Mapping[str, Any] | None = None,
    *,
    using: str | None = None,
    **options: Unpack[EventOptions],
) -> int:
    """``submit_event()`` for async code."""
    return await sync_to_async(submit_event)(target, trigger, context, using=using, **options)


async def asubmit_events(
    submissions: Iterable[Submission], *, using: str | None = None
) -> list[int]:
    """``submit_events()`` for async code."""
    return await sync_to_async(submit_events)(submissions, using=using)
