"""``stator events``: the durable events on record, and what people do to them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet

from django_fsmworker.events import cancel_event, retry_event
from django_fsmworker.management.output import Output
from django_fsmworker.management.stator_commands.selection import key_named
from django_fsmworker.management.stator_commands.subcommand import (
    ExitCode,
    Subcommand,
    add_action,
    add_by,
    alias_of,
    model_of,
    whole_number,
)
from django_fsmworker.models.event import Event, EventStates, named

COLUMNS = ("id", "model", "row", "trigger", "state", "fires at", "failures", "reason")
SHOWN = (
    "by", "submitted", "expires_at", "max_attempts", "idempotency_key", "state_changed",
    "state_next", "state_lease",
)  # fmt: skip
LIMIT = 100


class EventsSubcommand(Subcommand):
    """Has subcommands of its own; each is a method here."""

    name = "events"
    help = "List and show durable events, cancel them, and try them again."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        listed = add_action(actions, "list", "those on record, the next to fire first")
        listed.add_argument("label", nargs="?", metavar="app.Model", help="only those of its rows")
        listed.add_argument("--row", metavar="PK", help="only those of this row")
        listed.add_argument("--trigger", help="only those of this name")
        listed.add_argument(
            "--state", choices=[*EventStates.states, "all"], default="pending",
            help="what has become of them (default: pending)",
        )  # fmt: skip
        listed.add_argument(
            "--limit", type=whole_number, default=LIMIT, metavar="N",
            help="no more than so many (default: %(default)d)",
        )  # fmt: skip
        shown = add_action(actions, "show", "all that is on record about an event")
        shown.add_argument("id", type=int, metavar="ID", help="its id")
        for action, what in (
            ("cancel", "cancel events that are not delivered"),
            ("retry", "try events now that wait, have failed, or were discarded or cancelled"),
        ):
            own = add_action(actions, action, what)
            own.add_argument("ids", nargs="+", type=int, metavar="ID", help="their ids")
            add_by(own)
            own.add_argument("--reason", default="", help="why; it is put on record")

    def run(self, options: dict[str, Any], out: Output) -> int:
        action: Callable[[dict[str, Any], Output], int] = getattr(self, f"_{options['action']}")
        return action(options, out)

    def _list(self, options: dict[str, Any], out: Output) -> int:
        found = list(_chosen(options).order_by("fires_at", "pk")[: options["limit"]])
        out.data([_summary(each) for each in found])
        if found:
            cells = [column.replace(" ", "_") for column in COLUMNS]
            out.table(COLUMNS, [[_summary(each)[cell] for cell in cells] for each in found])
        else:
            out.line("There is no such event.")
        return ExitCode.DONE

    def _show(self, options: dict[str, Any], out: Output) -> int:
        event = _events(options).filter(pk=options["id"]).first()
        if event is None:
            raise CommandError(
                f"There is no event {options['id']} on record; 'manage.py stator events list "
                f"--state all' has those that there are."
            )
        explanation, failure = event.state_explain(), event.failure
        details = {**_summary(event), **{name: getattr(event, name) for name in SHOWN}}
        details["failure"] = f"{failure.error}: {failure.message}" if failure else None
        out.data(
            {
                **details,
                "context": event.context,
                "reasons": explanation.as_dict()["reasons"],
            }
        )
        for name, value in details.items():
            out.line(f"{name}: {'-' if value in (None, '') else value}")
        out.line(f"context: {DjangoJSONEncoder(ensure_ascii=False).encode(event.context)}")
        for reason in explanation.reasons:
            out.line(f"- {reason.sentence}")
        return ExitCode.DONE

    def _cancel(self, options: dict[str, Any], out: Output) -> int:
        reason, by = options["reason"], options["by"]
        why = ": ".join(filter(None, [f"Cancelled by {by}" if by else "Cancelled", reason]))

        def cancel(event: int, using: str) -> bool:
            return cancel_event(event, reason=why, using=using)

        return _do(cancel, "cancelled", options, out)

    def _retry(self, options: dict[str, Any], out: Output) -> int:
        def retry(event: int, using: str) -> bool:
            return retry_event(event, by=options["by"], reason=options["reason"], using=using)

        return _do(retry, "tried again", options, out)


def _do(verb: Callable[[int, str], bool], done: str, options: dict[str, Any], out: Output) -> int:
    """Call ``verb`` for each event; the exit code is 3 if one is not in a state for it."""
    alias = _alias(options)
    did = {event: verb(event, alias) for event in dict.fromkeys(options["ids"])}
    number = sum(did.values())
    left = [event for event, is_done in did.items() if not is_done]
    out.data({"events": number, "left": left})
    out.line(f"{number} {'event' if number == 1 else 'events'} {done}.")
    for event in left:
        out.line(f"The event {event} is left as it is: it has come to its end, or is not there.")
    return ExitCode.FOUND if left else ExitCode.DONE


def _chosen(options: dict[str, Any]) -> QuerySet[Event]:
    events = _events(options)
    if options["label"]:
        model = model_of(options)
        events = events.filter(model=model._meta.label)
        if options["row"] is not None:
            row, number = named(model, key_named(model, options["row"]))
            events = events.filter(row_hash=number, row=row)
    elif options["row"] is not None:
        raise CommandError("Name the model of that row, too.")
    if options["trigger"]:
        events = events.filter(trigger=options["trigger"])
    return events if options["state"] == "all" else events.filter(state=options["state"])


def _events(options: dict[str, Any]) -> QuerySet[Event]:
    events: QuerySet[Event] = QuerySet(Event, using=_alias(options))
    return events


def _alias(options: dict[str, Any]) -> str:
    """The database of the events: that of the model, if one is named."""
    if options.get("label"):
        return alias_of(model_of(options), options)
    return alias_of(Event, options)


def _summary(event: Event) -> dict[str, Any]:
    return {
        "id": event.pk,
        "model": event.model,
        "row": event.row,
        "trigger": event.trigger,
        "state": event.state,
        "fires_at": event.fires_at,
        "failures": max(0, event.state_failures),
        "reason": event.reason,
    }
