"""What a project puts around the calls of its checks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from django_fsmworker.checks.settings import check_settings
from django_fsmworker.conf import RunnerSettings
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.models import Event
from django_fsmworker.runner import StatorRunner
from django_fsmworker.runner.execution.middleware import AttemptMiddleware
from django_fsmworker.testing import run_until_idle
from tests.app.models import CheckLog, Traced, Trouble, traced
from tests.runner import around
from tests.runner.embedded import one_pass
from tests.runner.rows import due_in, fresh, reason, states

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    yield
    around.SEEN.clear()
    around.SAID.clear()


@pytest.fixture
def seen_by_checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the checks of ``Traced`` find in the context variable."""
    found: list[str] = []

    def check(row: Any) -> str:
        found.append(around.TENANT.get())
        return "done"

    async def calm_check(row: Any) -> str:
        return check(row)

    monkeypatch.setitem(traced.CHECKS, "finish", check)
    monkeypatch.setitem(traced.ASYNC_CHECKS, "finish", calm_check)
    return found


def paths(*names: str) -> list[str]:
    return [f"tests.runner.around.{name}" for name in names]


def _raise(*args: Any) -> None:
    raise RuntimeError("no")


def run(*names: str, model: Any = Traced, **options: Any) -> StatorRunner:
    return one_pass(model, attempt_middleware=paths(*names), **options)


class TestCalls:
    def test_a_context_reaches_the_check_and_not_the_next_one(
        self, seen_by_checks: list[str]
    ) -> None:
        for _ in range(3):
            Traced.objects.create()

        run("tenant", concurrency=1)

        assert seen_by_checks == ["acme"] * 3
        assert around.SAID == ["before ", "after, to done"] * 3

    def test_so_it_does_on_the_event_loop(self, seen_by_checks: list[str]) -> None:
        for _ in range(2):
            Traced.objects.create(state="calm")

        run("calm_tenant")

        assert seen_by_checks == ["calm acme"] * 2
        assert around.SAID == ["calmly before "] * 2

    def test_a_sync_one_serves_async_checks_too(self, seen_by_checks: list[str]) -> None:
        Traced.objects.create(state="calm")

        run("tenant")

        assert seen_by_checks == ["acme"]
        assert around.SAID == ["before ", "after, to done"]

    def test_the_first_is_the_outermost(self) -> None:
        Traced.objects.create()

        run("tenant", "inner")

        assert around.SAID == ["before ", "inside acme", "after, to done"]

    def test_what_it_is_told(self) -> None:
        row = Traced.objects.create(state_failures=1)

        worker = run("tenant").worker

        (info,) = around.SEEN
        assert (info.model, info.state, info.row) == (Traced, "new", row)
        assert (info.attempt, info.worker, info.using) == (2, worker, "default")
        assert info.event is None

    def test_a_batch_is_one_call_with_its_rows(self) -> None:
        rows = [Traced.objects.create(state="grouped") for _ in range(3)]

        run("tenant")

        (info,) = around.SEEN
        assert set(info.rows) == set(rows)
        assert set(states(rows)) == {"done"}

    def test_around_an_atomic_check_it_is_in_the_transaction(self) -> None:
        row = Trouble.objects.create(state="strict")

        run("failing_afterwards", model=Trouble)

        assert fresh(row).state == "strict"
        assert reason(row) == "OSError: the door is stuck"
        assert not CheckLog.objects.exists()

    def test_without_a_runner(self, settings: Any, seen_by_checks: list[str]) -> None:
        settings.FSMWORKER = {"ATTEMPT_MIDDLEWARE": paths("tenant")}
        row = Traced.objects.create()

        row.state_transition_check()

        assert seen_by_checks == ["acme"]
        around.TENANT.set("")

    def test_in_a_test_of_a_batch(self, settings: Any) -> None:
        settings.FSMWORKER = {"ATTEMPT_MIDDLEWARE": paths("inner")}
        for _ in range(2):
            Traced.objects.create(state="grouped")

        run_until_idle(Traced)

        assert around.SAID == ["inside "]

    def test_around_an_event_that_is_delivered(self, settings: Any) -> None:
        settings.FSMWORKER = {"ATTEMPT_MIDDLEWARE": paths("tenant")}
        row = Traced.objects.create(state="held")
        row.state_submit("release")

        one_pass(Traced, attempt_middleware=paths("inner"))

        (info,) = around.SEEN
        assert (info.row, info.state, info.event.trigger) == (row, "held", "release")
        assert fresh(row).state in ("new", "done")

    def test_a_context_does_not_reach_the_next_event(self, settings: Any) -> None:
        settings.FSMWORKER = {"ATTEMPT_MIDDLEWARE": paths("tenant")}
        for _ in range(2):
            Traced.objects.create(state="held").state_submit("release")

        one_pass(Traced, attempt_middleware=paths("inner"), concurrency=1)

        events = [each for each in around.SEEN if each.event is not None]
        assert len(events) == 2
        assert [each for each in around.SAID if each.startswith("before")] == ["before "] * 2


class TestErrors:
    def test_an_event_fails_whose_exception_is_swallowed(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.FSMWORKER = {"ATTEMPT_MIDDLEWARE": paths("forgiving")}
        monkeypatch.setattr("django_fsmworker.events.delivery.act", _raise)
        row = Traced.objects.create(state="held")
        row.state_submit("release", max_attempts=1)

        one_pass(Traced)

        event = Event.objects.get()
        assert (event.state, fresh(row).state) == ("failed", "held")
        assert event.reason == (
            "RuntimeError: An exception of release was swallowed by what is around attempts; let "
            "it through."
        )

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("refusing", "PermissionError: nobody comes in"),
            ("failing_afterwards", "OSError: the door is stuck"),
            (
                "calm_tenant",
                "TypeError: tests.runner.around.calm_tenant returned an async context manager, and "
                "the check is no async def; return one that has __enter__, too.",
            ),
            (
                "none_at_all",
                "TypeError: tests.runner.around.none_at_all returned None; an attempt's middleware "
                "returns a context manager: decorate it with contextlib.contextmanager.",
            ),
        ],
    )
    def test_it_is_a_failure_of_the_row(self, name: str, said: str) -> None:
        row = Traced.objects.create()

        run(name)

        assert reason(row) == said
        assert (fresh(row).state, fresh(row).state_failures) == ("new", 1)

    def test_so_it_is_on_the_event_loop(self) -> None:
        row = Traced.objects.create(state="calm")

        run("refusing")

        assert reason(row) == "PermissionError: nobody comes in"

    def test_it_may_put_the_row_off(self) -> None:
        row = Traced.objects.create()

        run("putting_off")

        assert (fresh(row).state, fresh(row).state_failures) == ("new", 0)
        assert 25 < due_in(row) < 31

    def test_one_that_swallows_an_exception_leaves_the_row_where_it_is(self) -> None:
        row = Trouble.objects.create(mode="raise")

        run("forgiving", model=Trouble)

        assert around.SAID == ["forgiven"]
        assert (fresh(row).state, fresh(row).state_failures) == ("new", 0)


class TestSettings:
    def test_without_any_nothing_is_built(self) -> None:
        assert AttemptMiddleware.of(RunnerSettings(), "") is None

    def test_in_the_environment_there_are_commas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FSMWORKER_ATTEMPT_MIDDLEWARE", "one.a, two.b")

        assert RunnerSettings.load().attempt_middleware == ("one.a", "two.b")

    @pytest.mark.parametrize("value", ["tenant", ["a.b", "3.c"], 7, "a.b,"])
    def test_what_is_no_path_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match="it has to be a list of dotted paths"):
            RunnerSettings.load(attempt_middleware=value)

    def test_what_cannot_be_imported_is_said_at_the_start(self) -> None:
        with pytest.raises(ConfigurationError) as raised:
            run("missing")

        assert str(raised.value).startswith(
            "attempt_middleware names tests.runner.around.missing, which cannot be imported: "
        )

    def test_what_is_no_function_is_said_too(self) -> None:
        with pytest.raises(ConfigurationError) as raised:
            run("SAID")

        assert str(raised.value) == (
            "attempt_middleware names tests.runner.around.SAID, which is no function."
        )

    def test_system_checks_say_so(self, settings: Any) -> None:
        settings.FSMWORKER = {"ATTEMPT_MIDDLEWARE": paths("missing")}

        assert "fsmworker.E008" in [each.id for each in check_settings(None)]
