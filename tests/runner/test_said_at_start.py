"""What a runner says of its surroundings when it starts, and what it does not start on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection, connections

from django_fsmworker.conf import unknown_variables
from django_fsmworker.exceptions import ConfigurationError
from django_fsmworker.runner import StatorRunner
from django_fsmworker.store import store_for
from tests.app.models import Chain, Noop
from tests.database.rows import statements
from tests.runner.embedded import one_pass

pytestmark = pytest.mark.django_db(transaction=True)


class TestVariables:
    @pytest.mark.parametrize(
        ("name", "remedy"),
        [
            ("FSMWORKER_CONCURENCY", "did you mean FSMWORKER_CONCURRENCY?"),
            ("FSMWORKER_POLL_INTERVALL", "did you mean FSMWORKER_POLL_INTERVAL?"),
            ("FSMWORKER_XYZ", "see the page on settings."),
        ],
    )
    def test_one_that_is_unknown(
        self,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        name: str,
        remedy: str,
    ) -> None:
        monkeypatch.setenv(name, "7")

        one_pass(Noop)

        sentence = f"The environment variable {name} is no setting of a runner; {remedy}"
        assert sentence in caplog.messages

    def test_those_that_are_settings_are_known(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FSMWORKER_CONCURRENCY", "7")

        assert unknown_variables() == []


@pytest.fixture
def manual_commits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setitem(connections["default"].settings_dict, "AUTOCOMMIT", False)
        yield


def test_connections_that_commit_nothing(manual_commits: None) -> None:
    with pytest.raises(ConfigurationError) as refused:
        StatorRunner([Noop]).run(run_for=0)

    assert str(refused.value) == (
        "DATABASES['default'] has AUTOCOMMIT = False, and nothing that a runner writes would be "
        "committed; remove it."
    )


class TestUndeclaredStates:
    def test_are_named_and_counted(self, caplog: pytest.LogCaptureFixture) -> None:
        Chain.objects.bulk_create(Chain(logged=False) for _ in range(7))
        extra = Chain.objects.create(logged=False)
        with connection.cursor() as cursor:  # as code with another graph does
            cursor.execute("UPDATE tests_chain SET state = 'gone'")
            cursor.execute("UPDATE tests_chain SET state = 'zero' WHERE id = %s", [extra.pk])

        one_pass(Chain)

        said = [each for each in caplog.messages if "does not declare" in each]
        assert said == [
            f"{number} rows of tests.Chain are in the state {state}, which ChainStates does not "
            "declare, and are not run; rename them with QuerySet.update(), or declare the state."
            for number, state in [(7, "gone"), (1, "zero")]
        ]

    def test_cost_a_look_up_a_state(self) -> None:
        Chain.objects.bulk_create(
            Chain(state=state, logged=False) for state in ("first", "second") for _ in range(500)
        )

        with statements() as sent:
            found = store_for("default").undeclared_states(Chain, 1000)

        assert found == {}
        assert len(sent) == 3
