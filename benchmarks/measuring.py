"""A measurement from its start to its file: the server, the facts, one case after the other."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.costs import OBSERVER
from benchmarks.results import CaseResult, Results

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.cases import Case
    from benchmarks.peers.roster import Peer


@contextmanager
def prepared(with_mariadb: bool) -> Iterator[str]:
    """Django with the benchmarks' models, on a fresh database of a server whose URL is yielded."""
    from benchmarks import database

    with ExitStack() as stack:
        url = stack.enter_context(database.server())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fsmworker-bench-"))
        if with_mariadb and (second := stack.enter_context(database.mariadb())):
            stack.callback(database.drop_databases, second)
            os.environ["BENCHMARK_MARIADB"] = database.fresh_database(second)
        os.environ["DATABASE_URL"] = database.fresh_database(url)
        os.environ["BENCHMARK_SQLITE"] = str(Path(folder, "benchmark.sqlite3"))
        os.environ["PGAPPNAME"] = OBSERVER
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        for alias in connections:
            call_command("migrate", database=alias, run_syncdb=True, verbosity=0)
        try:
            yield url
        finally:
            connections.close_all()
            database.drop_databases(url)


def facts(peers: Sequence[Peer]) -> dict[str, dict[str, str]]:
    """The machine, the versions, the databases, and what each peer's environment holds."""
    from django.db import connections

    from benchmarks import machine
    from benchmarks.database import database_facts

    return {
        "machine": machine.machine_facts(),
        "versions": machine.version_facts(),
        **{f"database {alias}": database_facts(alias) for alias in connections},
        **({"peers": {each.name: ", ".join(each.requirements) for each in peers}} if peers else {}),
    }


def measure(cases: Sequence[Case], bench: Bench, command: str) -> Iterator[Results]:
    """
    Measure one case after the other; yield what there is before the first and after each.

    One that fails says so, and the others go on.
    """
    results = Results(facts(bench.peers))
    yield results
    for case in cases:
        results.add(_measured(case, bench, command))
        yield results


def _measured(case: Case, bench: Bench, command: str) -> CaseResult:
    from benchmarks.bench import say
    from benchmarks.machine import Weather, load

    say(f"{case.name}: {case.title}")
    taken = datetime.now(UTC).isoformat(timespec="seconds")
    result = CaseResult(case.name, taken, command, load=load())
    began, weather = time.monotonic(), Weather()
    try:
        result.series = case.measure(bench)
    except Exception as error:  # whatever it is, the other cases go on
        traceback.print_exc()
        result.error = f"{type(error).__name__}: {error}"
    result.seconds = time.monotonic() - began
    result.steal = weather.steal()
    return result
