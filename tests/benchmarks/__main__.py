"""``python -m tests.benchmarks drain [--rows N] [--runs N]``: medians and ratios, one run."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time

import django
from django.db import connection


def fill(rows: int) -> None:
    """A table with nothing but ``rows`` due rows."""
    from testapp.models import Noop

    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("TRUNCATE testapp_noop")
        else:
            cursor.execute("DELETE FROM testapp_noop")
    Noop.objects.bulk_create([Noop() for _ in range(rows)], batch_size=5000)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE testapp_noop")
            cursor.execute("CHECKPOINT")


def engine_drain() -> float:
    """The same rows through a runner with default settings; returns the seconds it took."""
    from django_fsmworker.runner import StatorRunner
    from testapp.models import Noop

    runner = StatorRunner([Noop])
    start = time.perf_counter()
    runner.run(run_for=0)
    return time.perf_counter() - start


def drain(rows: int, runs: int) -> None:
    """Floor and engine in turns; what is left undone is an error."""
    from testapp.models import Noop
    from tests.benchmarks import floor

    rates: dict[str, list[float]] = {"floor": [], "engine": []}
    for _ in range(runs):
        for name, measure in (("floor", floor.drain), ("engine", engine_drain)):
            fill(rows)
            rates[name].append(rows / measure())
            left = Noop.objects.exclude(state="done").count()
            if left:
                raise SystemExit(f"{name} left {left} of {rows} rows undone")
    for name, each in rates.items():
        print(
            f"{name:8} median {statistics.median(each):9,.0f} rows/s   "
            f"min {min(each):9,.0f}   max {max(each):9,.0f}   runs {len(each)}"
        )
    ratios = [engine / raw for raw, engine in zip(rates["floor"], rates["engine"], strict=True)]
    print(f"engine / floor, run by run: median {statistics.median(ratios):.2f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=["drain"])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testapp.settings")
    os.environ.setdefault("DEBUG", "0")
    django.setup()
    with connection.cursor() as cursor:
        version = "sqlite_version()" if connection.vendor == "sqlite" else "version()"
        cursor.execute(f"SELECT {version}")
        print(f"{connection.vendor}: {cursor.fetchone()[0]}")
    print(f"Python {platform.python_version()}, Django {django.__version__}, {os.cpu_count()} CPUs")
    drain(arguments.rows, arguments.runs)


if __name__ == "__main__":
    main()
