"""What the sessions of a runner begin with: a limit for checks, READ COMMITTED for the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction

from django_fsmworker.runner.database.connections import ThreadConnections
from tests.app.models import Errand, Trouble
from tests.app.models.errands import ERRANDS
from tests.runner.embedded import one_pass

pytestmark = pytest.mark.django_db(transaction=True)

Mode = Callable[..., None]

LIMIT = {
    "postgresql": "SELECT setting::integer / 1000.0 FROM pg_settings "
    "WHERE name = 'statement_timeout'",
    "mysql": "SELECT @@max_statement_time",
}
ISOLATION = {
    "postgresql": "SELECT lower(current_setting('transaction_isolation'))",
    "mysql": "SELECT lower(replace(@@tx_isolation, '-', ' '))",
}


def ask(questions: dict[str, str]) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(questions[connection.vendor])
        return cursor.fetchone()[0]


@pytest.fixture
def database_default() -> Iterator[Callable[[str, str], None]]:
    """``database_default(name, value)``: what the server lets every session begin with."""
    named: list[str] = []

    def execute(change: str) -> None:
        with connection.cursor() as cursor:
            database = connection.ops.quote_name(connection.settings_dict["NAME"])
            cursor.execute(f"ALTER DATABASE {database} {change}")

    def define(name: str, value: str) -> None:
        execute(f"SET {name} = '{value}'")
        named.append(name)

    yield define
    for name in named:
        execute(f"RESET {name}")


class TestStatementsOfChecks:
    """One of a runner that was killed ends: past its longest deadline, and five seconds."""

    @pytest.fixture
    def limits(self, mode: Mode, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        found: list[float] = []

        def ask_limit(row: Any) -> str:
            found.append(float(ask(LIMIT)))
            return "done"

        async def ask_limit_async(row: Any) -> str:
            return await sync_to_async(ask_limit)(row)

        mode("limit", ask_limit)
        monkeypatch.setitem(ERRANDS, "limit", ask_limit_async)
        Trouble.objects.create(mode="limit")
        Errand.objects.create(mode="limit")
        return found

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_are_limited(self, limits: list[float]) -> None:
        one_pass(Trouble, Errand, task_deadline=20)

        assert limits == [25.0, 25.0]

    @pytest.mark.postgresql
    def test_a_shorter_limit_of_the_project_stays(
        self, limits: list[float], database_default: Callable[[str, str], None]
    ) -> None:
        database_default("statement_timeout", "7s")

        one_pass(Trouble, Errand, task_deadline=20)

        assert limits == [7.0, 7.0]

    @pytest.mark.postgresql
    def test_a_longer_one_does_not(
        self, limits: list[float], database_default: Callable[[str, str], None]
    ) -> None:
        database_default("statement_timeout", "1h")

        one_pass(Trouble, Errand, task_deadline=20)

        assert limits == [25.0, 25.0]


class TestIsolation:
    @pytest.fixture
    def stricter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The project has its own transactions at REPEATABLE READ."""
        level: Any = "repeatable read"
        if connection.vendor == "postgresql":
            from psycopg import IsolationLevel

            level = IsolationLevel.REPEATABLE_READ
        options = connections["default"].settings_dict["OPTIONS"]
        monkeypatch.setitem(options, "isolation_level", level)

    def isolation(self, *, engine: bool) -> str:
        own = ThreadConnections(beside_pool=engine, for_user_code=not engine)
        try:
            with transaction.atomic():
                return str(ask(ISOLATION))
        finally:
            own.close()

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_of_the_engine_is_read_committed(
        self, stricter: None, start_thread: Callable[..., Any]
    ) -> None:
        thread = start_thread(lambda: self.isolation(engine=True))

        assert thread.result() == "read committed"

    @pytest.mark.postgresql
    @pytest.mark.mysql
    def test_of_checks_is_the_project_s(
        self, stricter: None, start_thread: Callable[..., Any]
    ) -> None:
        thread = start_thread(lambda: self.isolation(engine=False))

        assert thread.result() == "repeatable read"

    @pytest.mark.postgresql
    def test_of_the_engine_on_a_server_that_is_stricter(
        self, database_default: Callable[[str, str], None], start_thread: Callable[..., Any]
    ) -> None:
        database_default("default_transaction_isolation", "serializable")

        thread = start_thread(lambda: self.isolation(engine=True))

        assert thread.result() == "read committed"
