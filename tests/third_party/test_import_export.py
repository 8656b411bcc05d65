"""django-import-export: an export that is imported again changes nobody's life."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from import_export.resources import ModelResource

from django_fsmworker import clock
from django_fsmworker.contrib.import_export import KeepsState
from tests.runner.rows import fresh
from tests.third_party.app.models import Ticket

pytestmark = pytest.mark.django_db(transaction=True)

LIFE = [
    "state",
    "state_changed",
    "state_next",
    "state_lease",
    "state_claim",
    "state_failures",
]


class TicketResource(KeepsState, ModelResource):
    class Meta:
        model = Ticket


class PlainResource(ModelResource):
    class Meta:
        model = Ticket


def life(ticket: Ticket) -> list[Any]:
    return [getattr(fresh(ticket), name) for name in LIFE]


def subject(ticket: Ticket) -> str:
    found: str = fresh(ticket).subject
    return found


def test_an_import_does_not_move_a_row_back() -> None:
    ticket = Ticket.objects.create(subject="before")
    exported = TicketResource().export()
    ticket.subject = "after"
    ticket.save()
    ticket.state_transition("answered")
    before = life(ticket)

    result = TicketResource().import_data(exported, raise_errors=True)

    assert result.totals["update"] == 1
    assert life(ticket) == before
    assert subject(ticket) == "before"


def test_an_import_does_not_bring_a_claim_back() -> None:
    ticket = Ticket.objects.create()
    Ticket.objects.filter(pk=ticket.pk).update(state_next=clock.now())
    assert Ticket.state_get_ready(1, 30) == [ticket]
    exported = TicketResource().export()
    ticket.state_transition("waiting")
    Ticket.objects.filter(pk=ticket.pk).update(state_lease=None, state_claim=None)
    before = life(ticket)

    TicketResource().import_data(exported, raise_errors=True)

    assert life(ticket) == before


def test_an_import_does_not_take_a_claim_away() -> None:
    ticket = Ticket.objects.create()
    exported = TicketResource().export()
    Ticket.objects.filter(pk=ticket.pk).update(state_next=clock.now())
    assert Ticket.state_get_ready(1, 30) == [ticket]
    before = life(ticket)

    TicketResource().import_data(exported, raise_errors=True)

    assert life(ticket) == before


def test_a_row_that_is_new_begins_in_the_state_of_the_import() -> None:
    ticket = Ticket.objects.create(state="opened")
    waiting = Ticket.objects.create(state="waiting")
    Ticket.objects.filter(pk=ticket.pk).update(
        state_changed=clock.now() - timedelta(days=9),
        state_lease=clock.now() + timedelta(days=1),
        state_claim=2,
        state_failures=3,
    )
    exported = TicketResource().export()
    Ticket.objects.all().delete()

    TicketResource().import_data(exported, raise_errors=True)

    again = fresh(ticket)
    assert fresh(waiting).state == "waiting"
    assert fresh(waiting).state_next is None
    assert [again.state_lease, again.state_claim, again.state_failures] == [None, None, 0]
    assert again.state_changed > clock.now() - timedelta(seconds=60)
    assert again.state_next - again.state_changed > timedelta(seconds=55)


def test_a_resource_that_would_write_a_claim_is_refused() -> None:
    ticket = Ticket.objects.create(subject="before")
    exported = PlainResource().export()
    Ticket.objects.filter(pk=ticket.pk).update(state_next=clock.now(), subject="after")
    assert Ticket.state_get_ready(1, 30) == [ticket]
    before = life(ticket)

    result = PlainResource().import_data(exported)

    ((_, (error,)),) = result.row_errors()
    assert str(error.error) == (
        f"state_lease of app.Ticket {ticket.pk} was assigned, which only a claim writes; nothing "
        f"was saved. Leave it out of what is imported or copied."
    )
    assert life(ticket) == before
    assert subject(ticket) == "after"
