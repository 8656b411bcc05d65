"""django-simple-history: rows have a life, their history has none."""

from __future__ import annotations

import pytest

from django_fsmworker.testing import run_until_idle, travel
from tests.runner.embedded import one_pass
from tests.runner.rows import entered, fresh
from tests.third_party.app.models import TracedTicket

pytestmark = pytest.mark.django_db(transaction=True)

History = TracedTicket.history.model


def test_a_history_row_is_never_run() -> None:
    ticket = TracedTicket.objects.create()

    with travel(seconds=61):
        runner = one_pass()

    assert fresh(ticket).state == "answered"
    assert runner.counters.total("moved") == 1
    assert list(History.objects.values_list("state", flat=True)) == ["opened"]


def test_a_history_row_is_never_deleted() -> None:
    ticket = TracedTicket.objects.create(state="closed")
    kept = ticket.history.get()
    entered(ticket, 2 * 86400)
    History.objects.update(state_changed=fresh(ticket).state_changed)

    one_pass()

    assert not TracedTicket.objects.exists()
    assert History.objects.filter(pk=kept.pk).exists()


def test_a_history_has_a_plain_column_and_no_index_of_a_runner() -> None:
    state = History._meta.get_field("state")

    assert getattr(state, "graph", None) is None
    assert not hasattr(History, "state_graph")
    assert not [index for index in History._meta.indexes if "state" in index.fields]


def test_what_a_check_saves_is_in_the_history() -> None:
    ticket = TracedTicket.objects.create(state="waiting")
    ticket.subject = "again"
    ticket.save()

    run_until_idle(TracedTicket)

    assert list(ticket.history.values_list("subject", "state")) == [
        ("again", "waiting"),
        ("", "waiting"),
    ]
