"""Several databases: routers and ``--database``, each with its own records, one runner for two."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.models import QuerySet

from django_fsmworker import clock
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.models import BulkAction, Event, FailureRecord, StatorLog
from django_fsmworker.models.bulk_action import bulk_actions_of
from django_fsmworker.models.discovery import stator_models
from django_fsmworker.models.event import events_of
from django_fsmworker.runner import StatorRunner, preflight
from django_fsmworker.store import stores_for
from tests.app.models import (
    BigKind,
    ChildKind,
    Document,
    InvoiceKind,
    KindStates,
    ProxyKind,
    RoutedKind,
)
from tests.runner.embedded import Embedded, one_pass
from tests.runner.processes import Process
from tests.runner.server import Server

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

Start = Callable[..., Embedded]
Eventually = Callable[..., Any]


@pytest.fixture
def by_model(settings: Any) -> None:
    """RoutedKind is written to `other`."""
    settings.DATABASE_ROUTERS = ["tests.routers.ByModel"]


def stored(model: Any, using: str) -> QuerySet[Any]:
    return QuerySet(model, using=using)


def records(model: Any) -> list[list[Any]]:
    """How many records of ``model`` there are in `default` and in `other`."""
    return [
        list(record.objects.using(using).values_list("model", flat=True))
        for record in (FailureRecord, StatorLog)
        for using in ("default", "other")
    ]


@pytest.mark.usefixtures("by_model")
class TestRouters:
    def test_one_runner_serves_two_databases(
        self, start_runner: Start, eventually: Eventually
    ) -> None:
        here, there = BigKind.objects.create(wish="fail"), RoutedKind.objects.create(wish="fail")
        start_runner(BigKind, RoutedKind)

        eventually(lambda: stored(BigKind, "default").get(pk=here.pk).state == "failed")
        eventually(lambda: stored(RoutedKind, "other").get(pk=there.pk).state == "failed")

    @pytest.mark.postgresql
    def test_one_that_is_away_holds_up_no_other(
        self, start_runner: Start, eventually: Eventually, server: Server
    ) -> None:
        def run(model: Any, using: str) -> None:
            row = model.objects.create()
            eventually(lambda: stored(model, using).get(pk=row.pk).state == "done")

        start_runner(BigKind, RoutedKind)
        run(BigKind, "default")
        connections["default"].close()

        with server.away():
            for _ in range(3):
                run(RoutedKind, "other")
        run(BigKind, "default")

    def test_records_are_in_the_row_s_own_database(self) -> None:
        BigKind.objects.create(wish="fail")
        RoutedKind.objects.create(wish="fail")

        one_pass(BigKind, RoutedKind)

        here, there = "tests.BigKind", "tests.RoutedKind"
        assert records(BigKind) == [[here], [there], [here], [there]]

    def test_each_is_deleted_in_its_own(self) -> None:
        long_ago = clock.now() - timedelta(days=1)
        for model, using in ((BigKind, "default"), (RoutedKind, "other")):
            model(state="done").save()
            stored(model, using).update(state_changed=long_ago)

        runner = one_pass(BigKind, RoutedKind)

        assert runner.counters.total("expired") == 2
        assert not stored(BigKind, "default").exists()
        assert not stored(RoutedKind, "other").exists()

    def test_a_database_that_lacks_a_table_is_named(self) -> None:
        with connections["other"].schema_editor() as editor:
            editor.delete_model(StatorLog)
        try:
            with pytest.raises(ConfigurationError) as refused:
                preflight.check_tables(stores_for([BigKind, RoutedKind]))
        finally:
            with connections["other"].schema_editor() as editor:
                editor.create_model(StatorLog)

        assert str(refused.value).startswith(
            "The table of django_fsmworker.StatorLog in the database 'other' is not as the code "
            "expects it ("
        )
        assert str(refused.value).endswith("); run 'manage.py migrate --database other'.")

    def test_one_that_a_router_keeps_it_from_too(self, settings: Any) -> None:
        settings.DATABASE_ROUTERS = ["tests.routers.Strict", "tests.routers.ByModel"]
        with connections["other"].schema_editor() as editor:
            editor.delete_model(StatorLog)
        try:
            with pytest.raises(ConfigurationError) as refused:
                preflight.check_tables(stores_for([RoutedKind]))
        finally:
            with connections["other"].schema_editor() as editor:
                editor.create_model(StatorLog)

        assert str(refused.value).endswith(
            "); run 'manage.py migrate --database other'. First let the router's allow_migrate() "
            "accept it there."
        )

    @pytest.mark.once
    def test_a_process_runs_the_rows_of_its_alias_only(
        self, start_process: Callable[..., Process], eventually: Eventually
    ) -> None:
        """(The process has no routers: the alias on its command line decides.)"""
        here, there = RoutedKind(), RoutedKind()
        here.save(using="default")
        there.save(using="other")

        process = start_process("runstator", "tests.RoutedKind", "--database", "other")

        eventually(lambda: stored(RoutedKind, "other").get(pk=there.pk).state == "done", 60)
        assert stored(RoutedKind, "default").get(pk=here.pk).state == "new"
        process.end()


class TestTheDatabaseOption:
    def test_wins_over_routers(self, by_model: None) -> None:
        here, there = RoutedKind(), RoutedKind()
        here.save(using="default")
        there.save(using="other")

        one_pass(RoutedKind, database="default")

        assert stored(RoutedKind, "default").get().state == "done"
        assert stored(RoutedKind, "other").get().state == "new"

    def test_runs_what_the_routers_keep_there(self, settings: Any) -> None:
        assert BigKind in stator_models("other")

        settings.DATABASE_ROUTERS = ["tests.routers.OnlyOne", "tests.routers.ByModel"]

        assert stator_models("other") == [BulkAction, Event, RoutedKind]
        assert RoutedKind not in stator_models("default")
        assert list(StatorRunner(database="other").stores) == [RoutedKind, events_of(RoutedKind)]

    def test_knows_no_other_models(self, settings: Any) -> None:
        settings.DATABASE_ROUTERS = ["tests.routers.OnlyOne", "tests.routers.ByModel"]

        with pytest.raises(CommandError) as refused:
            call_command("runstator", "tests.BigKind", "--once", "--database", "other")

        assert str(refused.value) == (
            "'tests.BigKind' is not a model with a state graph; there are: tests.RoutedKind."
        )

    def test_a_database_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(ConfigurationError) as refused:
            StatorRunner([BigKind], database="archive")

        assert str(refused.value) == (
            "There is no database 'archive'; DATABASES has default, other."
        )


class TestReplica:
    """`other` is where the routers read, and it has seen nothing of what was written."""

    @pytest.fixture(autouse=True)
    def replica(self, settings: Any) -> None:
        settings.DATABASE_ROUTERS = ["tests.routers.Replica"]

    def test_a_runner_does_not_read_from_it(self) -> None:
        rows = [BigKind.objects.create(wish=wish) for wish in ("done", "fail", "stuck")]
        invoice = InvoiceKind.objects.create()
        long_ago = clock.now() - timedelta(days=1)
        old = BigKind.objects.create(state="done")
        stored(BigKind, "default").filter(pk=old.pk).update(state_changed=long_ago)

        one_pass(BigKind, InvoiceKind)
        one_pass(BigKind, InvoiceKind)

        left = dict(stored(BigKind, "default").values_list("pk", "state"))
        assert left == dict(zip([row.pk for row in rows], ["done", "failed", "stuck"], strict=True))
        assert stored(InvoiceKind, "default").get(pk=invoice.pk).state == "done"
        assert FailureRecord.objects.using("default").count() == 2
        assert not Document.objects.using("other").exists()

    def test_a_row_s_own_verbs_do_not_either(self) -> None:
        row = BigKind.objects.create()
        row.state_transition("stuck")
        row.state_transition("done", force=False)
        other = stored(BigKind, "default").only("wish").get(pk=BigKind.objects.create().pk)

        assert other.state_transition_check() is KindStates.done
        assert stored(BigKind, "default").get(pk=row.pk).state == "done"

    def test_a_stale_row_from_it_moves_nothing_back(self) -> None:
        row = BigKind.objects.create()
        BigKind(pk=row.pk).save(using="other")
        row.state_transition("stuck")

        late = BigKind.objects.get(pk=row.pk)
        assert (late._state.db, late.state) == ("other", "new")
        late.wish = "stay"
        late.save()

        saved = stored(BigKind, "default").get(pk=row.pk)
        assert (saved.state, saved.wish) == ("stuck", "stay")

    def test_a_queryset_is_moved_where_it_is_written(self) -> None:
        row = BigKind.objects.create()
        BigKind(pk=row.pk).save(using="other")

        assert BigKind.state_transition_queryset(BigKind.objects.all(), "stuck") == 1
        assert BigKind.state_transition_queryset(BigKind.objects.order_by("pk")[:1], "done") == 1

        assert stored(BigKind, "default").get().state == "done"
        assert stored(BigKind, "other").get().state == "new"

    def test_a_queryset_that_names_its_database_is_moved_there(self) -> None:
        BigKind().save(using="other")

        assert BigKind.state_transition_queryset(BigKind.objects.using("other"), "stuck") == 1


class TestLabels:
    """Only a declaring model is named on the command line."""

    @pytest.mark.parametrize(
        ("label", "owner"),
        [("tests.ChildKind", "tests.ParentKind"), ("tests.proxykind", "tests.BigKind")],
    )
    def test_children_and_proxies_are_refused_by_name(self, label: str, owner: str) -> None:
        with pytest.raises(CommandError) as refused:
            call_command("runstator", label, "--once", stdout=StringIO())

        assert str(refused.value) == f"{label!r} has its state in the table of {owner}; name that."

    def test_a_proxy_stands_for_its_model(self) -> None:
        chosen = list(StatorRunner([ProxyKind, BigKind]).stores)
        assert chosen[:2] == [BigKind, events_of(BigKind)]
        assert set(chosen[2:]) <= {bulk_actions_of(BigKind)}  # if an admin was loaded

    def test_children_are_refused_by_the_runner_itself(self) -> None:
        with pytest.raises(ConfigurationError) as refused:
            StatorRunner([ChildKind])

        assert str(refused.value) == (
            "tests.ChildKind has its state in the table of tests.ParentKind; its rows are "
            "claimed, run and deleted as rows of tests.ParentKind: name that instead."
        )
