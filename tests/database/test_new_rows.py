"""How rows are born: by the ORM, in bulk, by plain SQL, and when they are due then."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from django_fsmworker import clock
from django_fsmworker.testing import run_until_idle, travel
from testapp.models import Order
from tests.app.models import BasicModel, BasicStates, Chain, Expiring, Noop, TextKey, Trouble

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


def soon(moment, after=timedelta(0)):
    """Whether ``moment`` is ``after`` from now, within the time a test takes."""
    return abs(moment - clock.now() - after) < 5 * SECOND


def plain_insert(table, columns="", values=""):
    """What another program does: INSERT without any column of this package's."""
    with connection.cursor() as cursor:
        if columns:
            cursor.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})")
        else:
            empty = "() VALUES ()" if connection.vendor == "mysql" else "DEFAULT VALUES"
            cursor.execute(f"INSERT INTO {table} {empty}")


@pytest.fixture(params=["create", "save", "bulk_create", "get_or_create"])
def born(request):
    """``born(Model, **fields)``: a new row by each way of the ORM, loaded again."""

    def make(model, **fields):
        if request.param == "create":
            row = model.objects.create(**fields)
        elif request.param == "save":
            row = model(**fields)
            row.save()
        elif request.param == "bulk_create":
            (row,) = model.objects.bulk_create([model(**fields)])
        else:
            row, _ = model.objects.get_or_create(defaults=fields)
        loaded = model.objects.get(pk=row.pk)
        for name in ("state", "state_changed", "state_next", "state_failures", "state_claim"):
            assert getattr(row, name) == getattr(loaded, name)
        return loaded

    return make


class TestORM:
    def test_initial_state_is_due_at_once(self, born):
        row = born(Order)

        assert row.state == "new"
        assert soon(row.state_changed)
        assert soon(row.state_next)
        assert (row.state_lease, row.state_claim, row.state_failures) == (None, None, 0)
        assert Order.objects.due().get() == row

    def test_another_state_with_start_after(self, born):
        row = born(BasicModel, state="pending_delete")

        assert soon(row.state_next, 5 * SECOND)

    def test_a_member_of_the_graph(self, born):
        row = born(BasicModel, state=BasicStates.pending_delete)

        assert row.state == "pending_delete"

    @pytest.mark.parametrize("state", ["done", "timed_out", "deleted"])
    def test_manual_and_terminal_states_are_never_due(self, born, state):
        assert born(BasicModel, state=state).state_next is None

    def test_manual_initial_state_is_never_due(self, born):
        assert born(Expiring).state_next is None

    def test_a_manual_state_with_a_timeout_is_due_then(self, born):
        assert soon(born(Trouble, state="waiting").state_next, 30 * SECOND)

    def test_an_explicit_due_time_is_kept(self, born):
        later = clock.now() + timedelta(days=1)

        assert born(Order, state_next=later).state_next == later

    def test_explicitly_never_due(self, born):
        assert born(Order, state_next=None).state_next is None

    def test_an_explicit_time_of_entry_is_kept(self, born):
        long_ago = clock.now() - timedelta(days=1)

        assert born(Order, state_changed=long_ago).state_changed == long_ago

    def test_a_new_row_is_due_by_the_travelled_time(self, born):
        with travel(seconds=3600):
            row = born(Order)

        assert soon(row.state_changed, 3600 * SECOND)
        assert soon(row.state_next, 3600 * SECOND)


def test_bulk_create_of_several_states():
    states = ["new", "done", "pending_delete"]

    BasicModel.objects.bulk_create([BasicModel(state=state) for state in states])

    new, done, pending = BasicModel.objects.order_by("pk")
    assert soon(new.state_next)
    assert done.state_next is None
    assert soon(pending.state_next, 5 * SECOND)


def test_bulk_create_that_ignores_conflicts_moves_nothing():
    TextKey.objects.create(code="a", state="done")

    TextKey.objects.bulk_create([TextKey(code="a"), TextKey(code="b")], ignore_conflicts=True)

    assert dict(TextKey.objects.values_list("code", "state")) == {"a": "done", "b": "new"}


class TestPlainSQL:
    def test_columns_have_defaults(self):
        plain_insert("tests_noop")

        row = Noop.objects.get()

        assert row.state == "new"
        assert soon(row.state_changed)
        assert row.state_next == row.state_changed
        assert (row.state_lease, row.state_claim, row.state_failures) == (None, None, 0)

    def test_is_due_and_runs(self):
        plain_insert("tests_noop")

        assert Noop.objects.due().count() == 1
        assert run_until_idle(Noop) == 1
        assert Noop.objects.get().state == "done"

    def test_start_after_is_honoured_when_a_runner_looks(self):
        plain_insert("tests_basicmodel", "state, ready", "'pending_delete', true")

        run_until_idle(BasicModel)

        row = BasicModel.objects.get()
        assert row.state == "pending_delete"
        assert soon(row.state_next, 5 * SECOND)
        with travel(seconds=5.5):
            run_until_idle(BasicModel)
        assert BasicModel.objects.get().state == "deleted"

    def test_manual_initial_state_gets_null_when_a_runner_looks(self):
        plain_insert("tests_expiring", "stubborn", "false")

        run_until_idle(Expiring)

        row = Expiring.objects.get()
        assert (row.state, row.state_next, row.state_claim) == ("kept", None, None)

    def test_a_timeout_in_a_manual_state_is_kept_when_a_runner_looks(self):
        plain_insert("tests_trouble", "state, mode, value", "'waiting', 'succeed', 0")

        run_until_idle(Trouble)

        assert soon(Trouble.objects.get().state_next, 30 * SECOND)

    def test_history_may_be_left_out(self):
        plain_insert("tests_trouble", "mode, value", "'succeed', 0")

        run_until_idle(Trouble)

        assert [state for state, _ in Trouble.objects.get().state_history] == ["done"]

    def test_text_of_the_time_compares_with_djangos(self):
        """A database's own format of a timestamp must not sort a due row behind now."""
        for _ in range(20):
            plain_insert("tests_noop")

        assert len(Noop.state_get_ready(100, 30)) == 20


class TestDueTimeOfTheWebHost:
    def test_a_web_host_that_is_ahead_delays_its_rows(self):
        with travel(seconds=60):
            Chain.objects.create(logged=False)

        assert Chain.objects.due().count() == 0
