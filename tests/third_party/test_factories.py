"""factory_boy and model_bakery: rows in any state, due when their state says so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import factory
import pytest
from model_bakery import baker

from django_fsmworker import clock
from django_fsmworker.testing import assert_path, run_until_idle, travel
from tests.runner.rows import due_in, fresh
from tests.third_party.app.models import Ticket, TicketStates

pytestmark = pytest.mark.django_db


class TicketFactory(factory.django.DjangoModelFactory[Ticket]):
    class Meta:
        model = Ticket

    subject = "something"


def by_bakery(**values: Any) -> Ticket:
    made: Ticket = baker.make(Ticket, **values)
    return made


MAKERS: list[Callable[..., Ticket]] = [TicketFactory, by_bakery]
both = pytest.mark.parametrize("make", MAKERS, ids=["factory_boy", "model_bakery"])


@both
def test_a_row_starts_in_the_first_state_and_is_due_when_it_says(make: Callable[..., Any]) -> None:
    ticket = make()

    assert fresh(ticket).state == "opened"
    assert 55 < due_in(ticket) <= 60


@both
def test_a_row_can_be_made_in_any_state(make: Callable[..., Any]) -> None:
    for state in TicketStates.states.values():
        made = fresh(make(state=state))

        assert made.state == state
        assert (made.state_next is None) is (state.name != "opened")
        assert (made.state_lease, made.state_claim, made.state_failures) == (None, None, 0)


@both
def test_a_row_can_be_made_old(make: Callable[..., Any]) -> None:
    ticket = make(state="closed", state_changed=clock.now() - timedelta(days=2))

    assert Ticket.state_do_deletes() == 1
    assert not Ticket.objects.filter(pk=ticket.pk).exists()


@both
def test_a_row_lives_in_a_test(make: Callable[..., Any]) -> None:
    ticket = make()

    with travel(seconds=61):
        run_until_idle(Ticket)

    assert_path(ticket, ["opened", "answered"])


def test_bakery_fills_optional_columns_and_the_row_is_not_held() -> None:
    ticket = baker.make(Ticket, _fill_optional=True)

    assert fresh(ticket).state == "opened"
    assert (fresh(ticket).state_lease, fresh(ticket).state_claim) == (None, None)


def test_factories_make_rows_in_bulk() -> None:
    baker.make(Ticket, 3, _bulk_create=True)
    TicketFactory.create_batch(2)

    assert Ticket.objects.in_state("opened").count() == 5
