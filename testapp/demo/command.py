"""The demo from beginning to end."""

from __future__ import annotations

import fcntl
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management import call_command
from django.db import OperationalError
from django.db.models import QuerySet

from django_fsmworker.models import FailureRecord
from testapp.demo import places
from testapp.demo.arguments import BadInput, Options, parse
from testapp.demo.display import Display, for_output
from testapp.demo.expiring import show_expiry
from testapp.demo.folder import INSTALLED_BY_OTHERS, Walk
from testapp.demo.kills import Killer, rows
from testapp.demo.names import for_people, to_text
from testapp.demo.runners import RunnerEnded, Runners
from testapp.demo.summary import Summary, next_steps
from testapp.demo.watch import watch
from testapp.models import File

BATCH = 1000

# Short leases, so that what a killed runner held is soon taken over.
TO_BE_KILLED = {"FSMWORKER_LEASE": "3"}


def run(arguments: Sequence[str]) -> int:
    """Run the demo; returns the exit status."""
    display = for_output()
    try:
        options = parse(arguments)
        with terminating(), only_one():
            return _run(options, display)
    except BadInput as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except (RunnerEnded, OperationalError) as error:
        display.close()
        print(f"demo: {str(error).strip().partition(chr(10))[0]}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        display.close()
        print("demo: stopped. What is not done yet is due; the next demo starts afresh.")
        return 130


def _run(options: Options, display: Display) -> int:
    call_command("migrate", verbosity=0)
    found = _add_files(options, display)
    if not found:
        raise BadInput(f"There are no files below {str(options.folder)!r}.")
    runners = Runners(options.processes, settings=TO_BE_KILLED if options.kill else {})
    killer = Killer(runners, options.kill)
    counts = watch(runners, killer, found, display)
    places.remove_unfinished()
    summary = Summary(found, counts, killer)
    for line in summary.lines():
        display.say(line)
    adds_up = summary.adds_up
    if options.expire_after is not None:
        adds_up = show_expiry(options.expire_after, display) and adds_up
    else:
        display.say("Archived and duplicate rows expire in a day; --expire-after 5 shows it now.")
    for line in next_steps():
        display.say(line)
    return 0 if adds_up else 1


def _add_files(options: Options, display: Display) -> int:
    """Forget the last demo and make a row of every file; how many there are."""
    before = File.objects.count()
    QuerySet(File).delete()
    FailureRecord.objects.filter(model=File._meta.label).delete()
    places.clear()
    if before:
        display.say(f"Starting afresh: {rows(before)} of the last demo and their copies are gone.")
    walk = Walk(options.folder, INSTALLED_BY_OTHERS if options.default else ())
    found, start = 0, time.monotonic()
    for batch in _batches(walk.files()):
        found += len(File.objects.bulk_create([File(path=to_text(path)) for path in batch]))
    for folder in walk.unreadable:
        display.say(f"The folder {for_people(to_text(folder))} cannot be read; it is left out.")
    what = ", Python's standard library" if options.default else ""
    place = for_people(to_text(str(options.folder)))
    took = time.monotonic() - start
    display.say(f"{rows(found)} for the files below {place}{what} ({took:.1f} s).")
    return found


def _batches(paths: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for path in paths:
        batch.append(path)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@contextmanager
def only_one() -> Iterator[None]:
    """Two demos in one folder would remove each other's rows."""
    try:
        places.home().mkdir(parents=True, exist_ok=True)
        file = places.lock_file().open("w")
    except OSError as error:
        raise BadInput(
            f"{places.home()} cannot be written ({error.strerror}); set DATA_DIR to another folder."
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                f"Another demo is running in {places.home()}; wait for it, or set DATA_DIR."
            ) from None
        yield


@contextmanager
def terminating() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
