"""A key may be any text: it is found again, its record is its own, and it writes no lines."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from django_fsmworker.graph import State, StateGraph
from django_fsmworker.logs import logger_for, shown
from django_fsmworker.models import FailureRecord, StateField, StatorModel
from django_fsmworker.models.resolving import resolve_failures
from django_fsmworker.runner.execution.attempt_log import AttemptLog
from django_fsmworker.store import Ending, store_for
from django_fsmworker.store.failures import Failure, record
from django_fsmworker.store.sqlite.sql import ESCAPE
from tests.app.models import NoopStates, TextKey
from tests.database.rows import LEASE, claim, fence, fetch, moved, stayed
from tests.runner.embedded import one_pass

pytestmark = pytest.mark.django_db

AWKWARD = ["a\nb", "\x1b[2J", "'", '"', "\\", "%s", "\u2028", "[1", ESCAPE, f"{ESCAPE}n", " x", "é"]
WITH_NUL = ["\0", "a\0b", "a\0c", f"{ESCAPE}\0", f"{ESCAPE}n\0{ESCAPE}e", "é\0"]

FAILURE = Failure("RuntimeError", "no")


def live(codes: list[str]) -> None:
    for code in codes:
        TextKey.objects.create(code=code)
    store = store_for("default")
    rows = claim(TextKey)
    fences = [fence(row) for row in rows]
    assert {row.pk for row in rows} == set(codes)
    assert store.renew(TextKey, fences, LEASE) == set(codes)
    assert store.still_held(TextKey, fences) == set(codes)
    target = next(iter(NoopStates.terminal_states)).name

    assert store.settle(TextKey, [moved(row, target) for row in rows]) == set(codes)

    assert {fetch(row).state for row in rows} == {target}


def test_every_text_is_found_again() -> None:
    live(AWKWARD)


@pytest.mark.sqlite
def test_a_text_with_nul_is_found_again() -> None:
    live([*AWKWARD, *WITH_NUL])


class NamedStates(StateGraph):
    limited = State(limit=1, limit_by="name")
    fair = State(fair_by="name")
    done = State()

    limited.transitions_to(fair)
    fair.transitions_to(done)

    @classmethod
    def check_limited(cls, row: Any) -> Any:
        return cls.fair

    @classmethod
    def check_fair(cls, row: Any) -> Any:
        return cls.done


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "names", [("abc", "ABC"), ("a", "a "), ("é", "e"), ("x\ny", "x"), ("", "a")]
)
def test_keys_of_limits_that_a_collation_takes_for_equal(names: tuple[str, str]) -> None:
    """All rows of both are run, whichever of them the database names."""
    with isolate_apps("testapp"):

        class Named(StatorModel):
            __module__ = "testapp.models"
            state = StateField(NamedStates)
            name = models.CharField(max_length=40)

    with connection.schema_editor() as editor:
        editor.create_model(Named)
    try:
        Named.objects.bulk_create(Named(name=names[number % 2]) for number in range(8))
        one_pass(Named)
        assert set(Named.objects.values_list("state", flat=True)) == {"fair"}
        one_pass(Named)
        assert set(Named.objects.values_list("state", flat=True)) == {"done"}
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Named)


class Opaque:
    """A key that Python cannot put in order."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opaque) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __str__(self) -> str:
        return f"#{self.number}"


class OpaqueField(models.IntegerField):  # type: ignore[type-arg]
    def from_db_value(self, value: int, *args: Any) -> Opaque:
        return Opaque(value)

    def get_prep_value(self, value: Any) -> Any:
        return value.number if isinstance(value, Opaque) else value


@pytest.mark.django_db(transaction=True)
def test_rows_whose_keys_have_no_order_are_moved() -> None:
    with isolate_apps("testapp"):

        class Sealed(StatorModel):
            __module__ = "testapp.models"
            code = OpaqueField(primary_key=True)
            state = StateField(NamedStates)
            name = models.CharField(max_length=40, default="")

    with connection.schema_editor() as editor:
        editor.create_model(Sealed)
    try:
        rows = [Sealed.objects.create(code=Opaque(number)) for number in (2, 10, 1)]
        moved = Sealed.state_transition_queryset(Sealed.objects.order_by("code")[:2], "done")

        assert moved == 2
        assert [fetch(row).state for row in rows] == ["done", "limited", "done"]
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Sealed)


class TestRecords:
    def exact(self) -> Any:
        """A model whose keys tell capital and small letters apart, everywhere."""
        binary = {"mysql": "utf8mb4_bin"}.get(connection.vendor)
        with isolate_apps("testapp"):

            class Exact(StatorModel):
                __module__ = "testapp.models"
                code = models.CharField(max_length=40, primary_key=True, db_collation=binary)
                state = StateField(NoopStates)

        return Exact

    @pytest.mark.parametrize("codes", [("abc", "ABC"), ("cafe", "café"), ("x", "x "), ("ß", "ss")])
    def test_of_keys_that_a_collation_takes_for_equal(self, codes: tuple[str, str]) -> None:
        exact, (one, other) = self.exact(), codes

        record("default", exact, [(one, "new", FAILURE)], "worker")
        record("default", exact, [(one, "new", FAILURE), (other, "new", FAILURE)], "worker")
        resolve_failures(exact, [other], "default")

        found = {each.row: (each.count, each.resolved is None) for each in _records()}
        assert found == {one: (2, True), other: (1, False)}

    def test_made_by_hand_are_found(self) -> None:
        row = TextKey.objects.create(code="Abc")
        now = row.state_changed
        FailureRecord.objects.create(
            model="tests.TextKey", row="Abc", state="new", error="E", first_seen=now, last_seen=now
        )

        record("default", TextKey, [("Abc", "new", FAILURE)], "worker")

        (entry,) = _records()
        assert entry.count == 2


def _records() -> list[FailureRecord]:
    return list(FailureRecord.objects.all())


class TestLines:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("a\nERROR forged", "a\\nERROR forged"),
            ("\x1b[31m", "\\x1b[31m"),
            (ValueError("no\r\n"), "no\\r\\n"),
            ("\u2028", "\\u2028"),
            ("plain é", "plain é"),
            (7, "7"),
            (None, "None"),
        ],
    )
    def test_what_ends_a_line_is_escaped(self, value: object, text: str) -> None:
        assert str(shown(value)) == text

    def test_of_a_logger_that_is_asked_for_twice(self, caplog: pytest.LogCaptureFixture) -> None:
        logger = logger_for("django_fsmworker.tried")
        assert logger_for("django_fsmworker.tried") is logger

        logger.warning("%s failed (%s).", "a\nb", RuntimeError("c\nd"))

        assert caplog.messages == ["a\\nb failed (c\\nd)."]

    def test_every_module_has_such_a_logger(self) -> None:
        known = logging.Logger.manager.loggerDict
        own = [
            each
            for name, each in known.items()
            if name.startswith("django_fsmworker.") and isinstance(each, logging.Logger)
        ]

        used = [each for each in own if each.name.count(".") >= 1 and each.filters]
        assert len(used) > 10
        assert [each.name for each in own if not each.filters] == []

    def test_of_a_row_that_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        TextKey.objects.create(code="7\nERROR all is lost")
        (row,) = claim(TextKey)
        failure = Failure("RuntimeError", "no\x1b[2J")

        AttemptLog().failed([(None, stayed(row, ending=Ending.FAILED, failure=failure))])

        assert caplog.messages == [
            "tests.TextKey 7\\nERROR all is lost failed in the state new: RuntimeError: no\\x1b[2J"
        ]
