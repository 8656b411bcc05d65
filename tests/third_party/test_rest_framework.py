"""Django REST framework: the state can be read, and writes do not move a row."""

from __future__ import annotations

import pytest
from rest_framework.serializers import ModelSerializer

from tests.runner.rows import fresh
from tests.third_party.app.models import Ticket

pytestmark = pytest.mark.django_db


class TicketSerializer(ModelSerializer[Ticket]):
    class Meta:
        model = Ticket
        fields = "__all__"


def test_the_columns_of_the_life_are_read_only_and_those_of_a_claim_left_out() -> None:
    fields = TicketSerializer().fields

    read_only = {name for name, field in fields.items() if field.read_only}

    assert read_only == {"id", "state", "state_changed", "state_next", "state_failures"}
    assert set(fields) & {"state_lease", "state_claim"} == set()


def test_the_state_is_shown_as_its_name() -> None:
    assert TicketSerializer(Ticket.objects.create()).data["state"] == "opened"


def test_an_update_does_not_move_the_row() -> None:
    ticket = Ticket.objects.create(subject="before")
    ticket.state_transition("waiting")

    serializer = TicketSerializer(
        ticket, {"subject": "after", "state": "closed", "state_next": None, "state_claim": 5}
    )
    serializer.is_valid(raise_exception=True)
    serializer.save()

    found = fresh(ticket)
    assert (found.subject, found.state, found.state_claim) == ("after", "waiting", None)


def test_an_update_of_a_row_loaded_earlier_does_not_move_it_back() -> None:
    ticket = Ticket.objects.create()
    loaded = Ticket.objects.get(pk=ticket.pk)
    ticket.state_transition("answered")

    serializer = TicketSerializer(loaded, {"subject": "after"})
    serializer.is_valid(raise_exception=True)
    serializer.save()

    assert (fresh(ticket).subject, fresh(ticket).state) == ("after", "answered")


def test_a_new_row_begins_at_the_beginning() -> None:
    serializer = TicketSerializer(data={"subject": "new", "state": "closed"})
    serializer.is_valid(raise_exception=True)

    assert fresh(serializer.save()).state == "opened"
