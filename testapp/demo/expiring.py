"""The end of a life: rows that were archived for long enough go, and their copies with them."""

from __future__ import annotations

import time

from testapp.demo import places
from testapp.demo.display import Display
from testapp.demo.kills import rows
from testapp.demo.runners import Runners
from testapp.models import File

EXPIRING = ("archived", "duplicate")
LOOK = 0.2


def show_expiry(seconds: float, display: Display) -> bool:
    """Run a runner whose graph says ``delete_after=seconds``; whether all that should go went."""
    files = File.objects.filter(state__in=EXPIRING)
    expected = files.count()
    display.say("")
    display.say(f"Expiry: now with delete_after={seconds:g} s, for {rows(expected)}.")
    settings = {"DEMO_EXPIRE_AFTER": str(seconds), "FSMWORKER_DELETE_INTERVAL": "0.5"}
    runners, start, said = Runners(1, settings=settings), time.monotonic(), expected
    runners.start()
    try:
        while left := files.count():
            if said - left >= 1000:
                display.say(f"{time.monotonic() - start:6.1f} s  {rows(left)} left")
                said = left
            runners.check()
            time.sleep(LOOK)
    finally:
        runners.stop()
    copies, kept = sum(1 for _ in places.copies()), File.objects.count()
    stay = f"; the {rows(kept)} that failed stay" if kept else ""
    took = time.monotonic() - start
    display.say(f"{took:6.1f} s  {rows(expected)} expired, {copies} copies are left{stay}.")
    return not copies
