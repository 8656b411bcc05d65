"""What a project does with rows of every kind of model: the state is as safe as in a plain one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.events import submit_event
from django_fsmworker.exceptions import (
    ConfigurationError,
    NotAllowed,
    StaleState,
    UndeclaredTransition,
)
from django_fsmworker.models import Event, FailureRecord, StatorQuerySet
from django_fsmworker.models.keys import key_of, row_key
from django_fsmworker.signals import state_changed
from django_fsmworker.store.tables import table_for
from django_fsmworker.testing import assert_path, run_until_idle, step
from tests.app.models import Document, InvoiceKind, LabelledKind, ProxyKind
from tests.database.rows import claim, statements
from tests.model_kinds import KINDS, KindOfModel, every_kind, values

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def kinds(chosen: Callable[[KindOfModel], bool]) -> Any:
    """As ``every_kind``, for some of them."""
    some = [kind for kind in KINDS if chosen(kind)]
    return pytest.mark.parametrize("kind", some, ids=[kind.name for kind in some])


@pytest.fixture(autouse=True)
def routers(settings: Any) -> None:
    settings.DATABASE_ROUTERS = ["tests.routers.ByModel"]


def load(kind: KindOfModel, row: Any) -> Any:
    """The row as the project's model has it."""
    return QuerySet(kind.model, using=kind.using).get(pk=row.pk)


@every_kind
class TestSaving:
    def test_a_stale_instance_does_not_move_the_row_back(self, kind: KindOfModel) -> None:
        row = kind.row()
        load(kind, row).state_transition("done")

        row.wish = "stay"
        row.save()

        stored = load(kind, row)
        assert (stored.state, stored.wish, stored.state_next) == ("done", "stay", None)

    def test_assigning_the_state_is_a_compare_and_set(self, kind: KindOfModel) -> None:
        row = kind.row()
        other = load(kind, row)
        row.state = "stuck"
        row.save()

        other.state, other.wish = "done", "fail"
        with pytest.raises(StaleState):
            other.save()

        stored = load(kind, row)
        assert (stored.state, stored.wish) == ("stuck", "done")

    def test_saving_another_field_leaves_the_state(self, kind: KindOfModel) -> None:
        row = kind.row()
        load(kind, row).state_transition("stuck")

        row.wish = "stay"
        row.save(update_fields=["wish"])

        assert (load(kind, row).state, load(kind, row).wish) == ("stuck", "stay")

    def test_deferred_columns_stay(self, kind: KindOfModel) -> None:
        created = kind.row()
        created.state_transition("stuck")
        row: Any = QuerySet(kind.model, using=kind.using).only("wish").get(pk=created.pk)

        row.wish = "stay"
        row.save()

        assert (load(kind, row).state, load(kind, row).wish) == ("stuck", "stay")

    def test_a_row_that_is_gone_does_not_come_back(self, kind: KindOfModel) -> None:
        row = kind.row()
        kind.stored(row).delete()

        with pytest.raises(DatabaseError), transaction.atomic(using=kind.using):
            row.save()

        assert not kind.rows().exists()
        assert not Document.objects.exists()

    def test_a_row_that_is_gone_is_not_moved(self, kind: KindOfModel) -> None:
        row = kind.row()
        kind.stored(row).delete()

        row.state = "done"
        with pytest.raises(DatabaseError), transaction.atomic(using=kind.using):
            row.save()

        assert not kind.rows().exists()

    def test_a_copy_starts_its_life_afresh(self, kind: KindOfModel) -> None:
        created = kind.row(state="stuck")
        kind.rows().update(state_claim=4, state_lease=clock.now(), state_failures=3)
        row = load(kind, created)

        for field in row._meta.concrete_fields:
            if field.primary_key or getattr(field.remote_field, "parent_link", False):
                setattr(row, field.attname, None)
        row._state.adding = True
        for name, value in kind.fields(9).items():
            setattr(row, name, value)
        row.save(using=kind.using)

        copy = kind.stored(row)
        assert key_of(row) != key_of(created)
        assert (copy.state, copy.state_claim, copy.state_lease) == ("stuck", None, None)
        assert (copy.state_failures, kind.stored(created).state_failures) == (0, 3)

    @pytest.mark.once
    def test_saving_no_field_sends_nothing(self, kind: KindOfModel) -> None:
        row = kind.row()

        with statements(kind.using) as sent:
            row.save(update_fields=[])

        assert sent == []

    @pytest.mark.once
    def test_bulk_update_of_the_state_is_refused(self, kind: KindOfModel) -> None:
        rows: StatorQuerySet[Any] = StatorQuerySet(kind.model, using=kind.using)

        with pytest.raises(ValueError, match="bulk_update.. cannot write state"):
            rows.bulk_update([kind.row()], ["state"])


# (Where the parent's key is another one, Django itself looks there for the child's.)
@kinds(lambda kind: kind.model is not LabelledKind)
def test_bulk_update_of_other_columns(kind: KindOfModel) -> None:
    rows: StatorQuerySet[Any] = StatorQuerySet(kind.model, using=kind.using)
    created = [kind.row(number) for number in range(3)]
    created[0].state_transition("stuck")
    for row in created:
        row.wish = "stay"

    rows.bulk_update(created, ["wish"])

    assert [load(kind, row).wish for row in created] == ["stay"] * 3
    assert [load(kind, row).state for row in created] == ["stuck", "new", "new"]


def locked_table(sql: str) -> str:
    """The table whose rows a SELECT locks, on its own or inside an UPDATE of that same table."""
    # Django quotes an alias since 6.0.
    (name,) = re.findall(r' FOR NO KEY UPDATE OF "?(\w+)"?', sql)
    aliased = re.findall(rf'\bUPDATE "(\w+)" SET .* IN \(SELECT .* FROM "\1" "?{name}\b', sql)
    return str(aliased[0] if aliased else name)


@every_kind
class TestMoving:
    def test_a_forced_move_revokes_the_claim(self, kind: KindOfModel) -> None:
        row = kind.row()
        kind.rows().update(state_claim=4, state_lease=clock.now() + timedelta(hours=1))

        row.state_transition("stuck")

        stored = kind.stored(row)
        assert (row.state, stored.state, stored.state_claim) == ("stuck", "stuck", -5)

    def test_a_forced_move_clears_a_claim_that_has_lapsed(self, kind: KindOfModel) -> None:
        row = kind.row()
        kind.rows().update(state_claim=4, state_lease=clock.now() - timedelta(hours=1))

        row.state_transition("stuck")

        stored = kind.stored(row)
        assert (stored.state, stored.state_claim, stored.state_lease) == ("stuck", None, None)

    def test_without_force_only_declared_moves_are_made(self, kind: KindOfModel) -> None:
        row = kind.row()

        with pytest.raises(UndeclaredTransition):
            row.state_transition("new", force=False)
        row.state_transition("done", force=False)

        assert (row.state, kind.stored(row).state) == ("done", "done")

    def test_an_event_moves_it_with_its_action(self, kind: KindOfModel) -> None:
        row, refused = kind.row(), kind.row(2, wish="fail")

        (offer,) = load(kind, row).state_events()
        state = row.state_send("finish", wish="told")
        with pytest.raises(NotAllowed) as caught:
            refused.state_send("finish")

        stored = kind.stored(row)
        assert (offer.allowed, caught.value.reason) == (True, "condition")
        assert (str(state), row.state, row.wish) == ("done", "done", "told")
        assert (stored.state, stored.wish) == ("done", "told")

    def test_durable_events_for_a_row_its_key_and_a_queryset(self, kind: KindOfModel) -> None:
        first, second, third = (kind.row(number, wish="stay") for number in (1, 2, 3))
        others: Any = StatorQuerySet(kind.model, using=kind.using).filter(pk=third.pk)

        first.state_submit("finish", {"wish": "told"})
        submit_event((kind.model, key_of(second)), "finish", {"wish": "told"}, using=kind.using)
        assert others.state_submit("finish", {"wish": "told"}) == 1
        run_until_idle(kind.runs, using=kind.using)

        for row in (first, second, third):
            assert (kind.stored(row).state, kind.stored(row).wish) == ("done", "told")

    def test_a_touch_makes_it_due(self, kind: KindOfModel) -> None:
        row = kind.row()
        kind.rows().update(state_next=clock.now() + timedelta(hours=1))

        assert load(kind, row).state_touch(after=0)

        assert kind.stored(row).state_next <= clock.now() + timedelta(seconds=1)

    def test_a_queryset_moves_just_its_rows(self, kind: KindOfModel) -> None:
        rows = [kind.row(number) for number in range(5)]
        some: QuerySet[Any] = QuerySet(kind.model, using=kind.using).filter(
            pk__in=[row.pk for row in rows[1:]]
        )

        assert kind.model.state_transition_queryset(some, "stuck") == 4

        assert [load(kind, row).state for row in rows] == ["new", *["stuck"] * 4]

    def test_slices_unions_and_distinct_rows(self, kind: KindOfModel) -> None:
        rows = [kind.row(number) for number in range(6)]
        every: QuerySet[Any] = QuerySet(kind.model, using=kind.using)
        pks = list(every.order_by("pk").values_list("pk", flat=True))  # in the database's order

        assert len(rows) == len(pks)
        assert kind.model.state_transition_queryset(every.order_by("pk")[:2], "stuck") == 2
        union = every.filter(pk=pks[2]).union(every.filter(pk=pks[3]))
        assert kind.model.state_transition_queryset(union, "stuck") == 2
        distinct = every.filter(pk=pks[4]).distinct()
        assert kind.model.state_transition_queryset(distinct, "stuck") == 1

        assert [each.state for each in every.order_by("pk")] == [*["stuck"] * 5, "new"]

    @pytest.mark.postgresql
    def test_locks_the_rows_that_have_the_state(self, kind: KindOfModel) -> None:
        kind.row()
        every: QuerySet[Any] = QuerySet(kind.model, using=kind.using)

        with statements(kind.using) as sent:
            kind.model.state_transition_queryset(every, "stuck")

        locking = [locked_table(sql) for sql, _ in sent if "FOR NO KEY UPDATE" in sql]
        # Events that wait for the rows come after them.
        assert locking[:1] == [kind.runs._meta.db_table]
        assert set(locking[1:]) <= {Event._meta.db_table}

    def test_the_signal_names_the_model_that_declares_the_state(self, kind: KindOfModel) -> None:
        row, told = kind.row(), []

        def tell(sender: Any, pk: Any, **kwargs: Any) -> None:
            told.append((sender, pk))

        state_changed.connect(tell, sender=kind.runs)
        try:
            with pytest.MonkeyPatch.context() as patch:
                connection = connections[kind.using]
                patch.setattr(connection, "on_commit", lambda func, robust=False: func())
                row.state_transition("stuck")
                kind.model.state_transition_queryset(
                    QuerySet(kind.model, using=kind.using).all(), "done"
                )
        finally:
            state_changed.disconnect(tell, sender=kind.runs)

        assert told == [(kind.runs, key_of(row))] * 2

    def test_resolves_the_failure(self, kind: KindOfModel) -> None:
        row = kind.row(wish="fail")
        with pytest.raises(RuntimeError):
            step(row)
        record = row.failure
        assert record is not None
        assert record.resolved is None

        row.state_transition("new")

        record.refresh_from_db(using=kind.using)
        assert record.resolved is not None


@every_kind
class TestChecking:
    def test_the_row_s_own_verb_moves_it(self, kind: KindOfModel) -> None:
        row = kind.row()

        assert row.state_transition_check() is kind.runs.state_graph.done

        assert (row.state, kind.stored(row).state) == ("done", "done")

    def test_a_stale_instance_changes_nothing(self, kind: KindOfModel) -> None:
        row = kind.row()
        load(kind, row).state_transition("stuck")

        assert row.state_transition_check() is None

        assert (row.state, kind.stored(row).state) == ("stuck", "stuck")

    def test_a_row_with_deferred_columns_is_checked(self, kind: KindOfModel) -> None:
        created = kind.row()
        row: Any = QuerySet(kind.model, using=kind.using).only("wish").get(pk=created.pk)

        assert row.state_transition_check() is kind.runs.state_graph.done

    def test_a_failure_is_recorded(self, kind: KindOfModel) -> None:
        row = kind.row(wish="fail")

        assert row.state_transition_check() is not None

        record = FailureRecord.objects.using(kind.using).get()
        assert (record.model, record.row) == (kind.runs._meta.label, row_key(key_of(row)))
        assert kind.stored(row).state == "failed"

    def test_the_test_kit_runs_it(self, kind: KindOfModel) -> None:
        row, other = kind.row(1), kind.row(2, wish="stay")

        assert run_until_idle(kind.runs) == 2
        assert step(other) is None

        assert_path(row, ["new", "done"])
        assert_path(other, ["new"])

    def test_rows_that_are_due_are_counted(self, kind: KindOfModel) -> None:
        kind.row(1)
        kind.row(2, state="done")

        assert kind.model.state_count_pending() == 1


@every_kind
class TestLoading:
    def test_the_words_of_the_queryset(self, kind: KindOfModel) -> None:
        row = kind.row()
        rows: StatorQuerySet[Any] = StatorQuerySet(kind.model, using=kind.using)

        assert [each.pk for each in rows.due().in_state("new").oldest_due_first()] == [row.pk]
        assert not rows.running() | rows.lapsed() | rows.failing() | rows.stranded()

    def test_one_by_one_after_a_claim(self, kind: KindOfModel) -> None:
        created = [kind.row(number) for number in range(3)]
        claimed = claim(kind.runs, using=kind.using)
        token = claimed[0].state_claim

        found = table_for(kind.model, kind.using).load_claimed((token,), ["new"])

        assert {each.pk for each in found} == {key_of(row) for row in created}
        assert all(values(each) == values(kind.stored(each)) for each in found)

    def test_a_row_that_cannot_be_read_has_its_key_and_its_life(
        self, kind: KindOfModel, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = kind.row()
        (claimed,) = claim(kind.runs, using=kind.using)

        def refuse(*args: Any) -> None:
            raise ValueError("cannot be read")

        monkeypatch.setattr(kind.runs, "from_db", refuse)
        (bare,) = table_for(kind.runs, kind.using).load_claimed((claimed.state_claim,), ["new"])

        assert (bare.pk, bare.state, bare.state_claim) == (key_of(row), "new", claimed.state_claim)
        assert "wish" in bare.get_deferred_fields()


@pytest.mark.once
@kinds(lambda kind: kind.model._meta.concrete_model is not kind.runs)
class TestChildrenOfTheDeclaringTable:
    def sentence(self, kind: KindOfModel) -> str:
        child, owner = kind.model._meta.label, kind.runs._meta.label
        return (
            f"{child} has its state in the table of {owner}; its rows are claimed, run and deleted "
            f"as rows of {owner}: name that instead."
        )

    def test_are_not_claimed_or_deleted_apart(self, kind: KindOfModel) -> None:
        for verb in (
            lambda: kind.model.state_get_ready(1, 30),
            kind.model.state_do_deletes,
            lambda: run_until_idle(kind.model),
        ):
            with pytest.raises(ConfigurationError) as caught:
                verb()
            assert str(caught.value) == self.sentence(kind)


@pytest.mark.parametrize("number", [1, 30])
def test_a_claim_asks_once_for_what_is_in_a_parents_table(number: int) -> None:
    for _ in range(number):
        InvoiceKind.objects.create()

    with statements() as sent:
        found = claim(InvoiceKind)

    assert len(found) == number
    assert len([sql for sql, _ in sent if "tests_document" in sql]) == 1


def test_a_proxy_is_claimed_and_deleted_as_itself_and_as_its_model() -> None:
    old, due = ProxyKind.objects.create(state="done"), ProxyKind.objects.create()
    ProxyKind.objects.filter(pk=old.pk).update(state_changed=clock.now() - timedelta(days=1))

    (claimed,) = ProxyKind.state_get_ready(5, 30)

    assert (type(claimed), claimed.pk) == (ProxyKind, due.pk)
    assert ProxyKind.state_do_deletes() == 1
    assert run_until_idle(ProxyKind) == 0
    assert list(ProxyKind.objects.all()) == [claimed]
