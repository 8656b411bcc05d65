"""``python -m testapp orders N`` from beginning to end."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import OperationalError
from django.db.models import QuerySet

from django_fsmworker.conf import positive_integer
from django_fsmworker.models import Event, FailureRecord
from testapp.demo.arguments import BadInput
from testapp.demo.command import only_one, terminating
from testapp.demo.runners import RunnerEnded, Runners
from testapp.models import TradeOrder
from testapp.trading.people import approver
from testapp.trading.plan import SOURCES, plan_of
from testapp.trading.sums import Said, Sums

DESCRIPTION = """\
N orders live: an exchange fills them and a bank pays for them, people hold, approve and cancel
them, and some expire. Four processes submit these events at the same time, every fifth one twice;
two runners deliver them, are killed with SIGKILL on the way, and are started again. In the end the
sums have to add up: the exit code is 1 if they do not. Each call starts afresh, with new orders."""

RUNNERS = 2
OPTIONS = (TradeOrder._meta.label, "--concurrency", "2", "--poll-interval", "1")
# Short leases, so that what a killed runner held is soon taken over.
TO_BE_KILLED = {"FSMWORKER_LEASE": "3"}
# Seconds between two looks; between two lines; in which something has to happen.
LOOK, LINE, STANDSTILL = 0.01, 1.0, 60.0
# Seconds for which the kill waits for a moment in which a runner has events in its hands.
LURKING = 5.0


def run(arguments: Sequence[str]) -> int:
    """Run it; returns the exit code."""
    try:
        number = _number(arguments)
        with terminating(), only_one():
            return _run(number)
    except BadInput as error:
        print(f"orders: {error}", file=sys.stderr)
        return 2
    except (RunnerEnded, OperationalError) as error:
        print(f"orders: {str(error).strip().partition(chr(10))[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "orders: stopped. Events that are not delivered yet wait; the next call starts afresh."
        )
        return 130


def _number(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m testapp orders", description=DESCRIPTION)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("number", metavar="N", help="how many orders")
    text = parser.parse_args(arguments).number
    try:
        return positive_integer(text)
    except ValueError:
        raise BadInput(f"{text!r} is not a whole number above 0.") from None


def _run(number: int) -> int:
    call_command("migrate", verbosity=0)
    place_orders(number)
    _say(f"{number:,} orders are placed; {len(SOURCES)} processes submit events to them.")
    said, runners = Said.of(number), Runners(RUNNERS, TO_BE_KILLED, OPTIONS)
    runners.start()
    try:
        with _submitting(number) as submitters:
            _watch(said, runners, submitters)
    finally:
        runners.stop()
    return concluded(said)


def place_orders(number: int) -> None:
    """Forget those of the last call, and place so many."""
    approver()
    QuerySet(TradeOrder).delete()
    FailureRecord.objects.filter(model=Event._meta.label).delete()
    _events().delete()
    plans = (plan_of(position) for position in range(number))
    TradeOrder.objects.bulk_create(
        TradeOrder(customer="somebody", quantity=each.quantity, price=each.price, state=each.state)
        for each in plans
    )


def concluded(said: Said) -> int:
    """Print the sums; returns the exit code."""
    sums = Sums(said)
    for line in sums.lines():
        _say(line)
    _say()
    _say("Next: python manage.py createsuperuser, then python manage.py runserver, and")
    _say("http://127.0.0.1:8000/orders/ is a page on which you approve, cancel and pay.")
    return 0 if sums.adds_up else 1


@contextmanager
def _submitting(number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The processes that submit; what is left of them ends with the block."""
    path = os.pathsep.join(filter(None, [str(settings.BASE_DIR), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "DATA_DIR": str(settings.DATA_DIR)}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for source in SOURCES:
            command = [sys.executable, "-m", "testapp.trading.submitter", source, str(number)]
            started.append(subprocess.Popen(command, env=environment))
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def _watch(said: Said, runners: Runners, submitters: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until every event has come to its end; the runners are killed after the first quarter."""
    began = changed = shown = time.monotonic()
    ripe: float | None = None
    killed, before = False, 0
    while True:
        now = time.monotonic()
        ended = _ended()
        if any(process.poll() for process in submitters):
            raise RunnerEnded("A process that submits events has failed; see above.")
        runners.check()
        if ended != before:
            before, changed = ended, now
        if now - shown >= LINE:
            shown = now
            _say(
                f"{now - began:6.1f} s  {ended:,} of {said.events:,} events have come to their end"
            )
        if not killed and ended >= said.events // 4:
            ripe = ripe or now
            in_hand = _in_hand()
            if in_hand or now - ripe > LURKING:
                killed = True
                pids = ", ".join(map(str, runners.kill()))
                _say(f"{now - began:6.1f} s  SIGKILL to the runners {pids}: "
                     f"{in_hand:,} events in their hands; started anew")  # fmt: skip
                runners.start()
        if killed and ended == said.events and all(process.poll() == 0 for process in submitters):
            return
        if now - changed > STANDSTILL:
            raise RunnerEnded(
                "Some events are not delivered; 'manage.py stator events list' has them."
            )
        time.sleep(LOOK)


def _events() -> QuerySet[Event]:
    return Event.objects.filter(model=TradeOrder._meta.label)


def _ended() -> int:
    return _events().exclude(state="pending").count()


def _in_hand() -> int:
    return _events().filter(state="pending", state_claim__isnull=False).count()


def _say(line: Any = "") -> None:
    print(line, flush=True)
