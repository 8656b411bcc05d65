"""``python -m testapp orders N``, as a user runs it, and what its sums notice."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import transaction

from django_fsmworker.events import Submission, submit_events
from django_fsmworker.models import Event
from django_fsmworker.testing import run_until_idle, travel
from testapp.models import Booking, TradeOrder
from testapp.trading.command import concluded, place_orders
from testapp.trading.plan import SOURCES, plan_of, steps_of
from testapp.trading.sums import Said, Sums
from tests.database.rows import put
from tests.paths import ROOT

ORDERS = [sys.executable, "-m", "testapp", "orders"]
NUMBER = 14

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def environment(database_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return {
        **database_env,
        "DJANGO_SETTINGS_MODULE": "testapp.settings",
        "DATA_DIR": str(tmp_path / "data"),
    }


@pytest.fixture
def delivered() -> Said:
    """What was said of some orders, after all of it has been delivered here."""
    place_orders(NUMBER)
    rows = list(TradeOrder.objects.order_by("pk"))
    submit_events(
        Submission(rows[step.position], step.trigger, step.context, delay=step.delay, by=source)
        for source in SOURCES
        for step in steps_of(source, NUMBER)
    )
    run_until_idle(TradeOrder)
    with travel(seconds=5):
        run_until_idle(TradeOrder)
    return Said.of(NUMBER)


# Nine processes; what a database does in this is for tests/chaos/test_events.py.
@pytest.mark.once
@pytest.mark.sqlite
@pytest.mark.postgresql
def test_the_sums_add_up_though_the_runners_are_killed(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*ORDERS, str(NUMBER)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SIGKILL to the runners \d+, \d+: \d+ events in their hands", done.stdout)
    assert done.stdout.count("it adds up.") == 5
    assert "DOES NOT" not in done.stdout
    said = Said.of(NUMBER)
    assert f"submitted {said.pieces:,}: it adds up." in done.stdout
    assert Event.objects.filter(model="testapp.TradeOrder").count() == said.events
    assert set(TradeOrder.objects.values_list("state", flat=True)) >= {"filled", "cancelled"}


def test_every_way_to_end_is_taken_and_what_does_not_add_up_is_said(
    delivered: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    states = set(TradeOrder.objects.values_list("state", flat=True))

    assert states >= {"filled", "cancelled", "expired"}
    assert set(Booking.objects.values_list("kind", flat=True)) == set(Booking.Kind.values)
    assert concluded(delivered) == 0
    assert "DOES NOT" not in capsys.readouterr().out

    for wrong in WRONG:
        with transaction.atomic():
            wrong()
            assert not Sums(delivered).adds_up, wrong
            assert concluded(delivered) == 1, wrong
            transaction.set_rollback(True)
        assert "IT DOES NOT ADD UP." in capsys.readouterr().out, wrong


def a_booking() -> Booking:
    booking = Booking.objects.filter(kind="fill").first()
    assert booking is not None
    return booking


def lose_a_booking() -> None:
    a_booking().delete()


def double_a_booking() -> None:
    booking = a_booking()
    booking.pk = None
    booking.save()


def fail_the_event_of_a_booking() -> None:
    put(Event.objects.get(pk=a_booking().event or 0), state="failed")


def mistake_the_states_of_orders() -> None:
    TradeOrder.objects.filter(state="filled").update(state="expired")


WRONG = [
    lose_a_booking,
    double_a_booking,
    fail_the_event_of_a_booking,
    mistake_the_states_of_orders,
]


def test_a_plan_is_the_same_each_time() -> None:
    assert plan_of(3) == plan_of(3)
    assert Said.of(NUMBER) == Said.of(NUMBER)


@pytest.mark.once
def test_what_is_no_number_is_refused(environment: dict[str, str]) -> None:
    done = subprocess.run([*ORDERS, "0"], cwd=ROOT, env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (2, "orders: '0' is not a whole number above 0.\n")
