"""
``python -m tests [--database NAME] [pytest's arguments]``: run the tests once on each database.

PostgreSQL is started for the run, unless ``TEST_DATABASE_URL`` names a server. The databases in
``REQUIRE_DATABASES`` (comma-separated) have to be there: an absent one is a failure.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.databases import VENDORS
from tests.passes import Outcome, run_pass


def main(arguments: Sequence[str]) -> int:
    options, for_pytest = _parser().parse_known_args(arguments)
    chosen = list(dict.fromkeys(options.database or VENDORS))
    required = _required()
    # Stopped from outside, the run still stops its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    outcomes = {vendor: Outcome(problem="not run") for vendor in required if vendor not in chosen}
    for number, vendor in enumerate(chosen):
        # What does not depend on the database runs in the first pass only.
        once = ["--without-unit"] if number else []
        outcomes[vendor] = _run(vendor, [*once, *for_pytest])
    return _report(outcomes, required)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests",
        description="Run the tests once on each database.",
        epilog="All other arguments go to pytest.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--database",
        action="append",
        choices=VENDORS,
        help="run on this database only; may be given twice (default: all)",
    )
    return parser


def _required() -> list[str]:
    names = [name.strip() for name in os.environ.get("REQUIRE_DATABASES", "").split(",")]
    required = [name for name in names if name]
    if unknown := [name for name in required if name not in VENDORS]:
        raise SystemExit(
            f"REQUIRE_DATABASES names {', '.join(unknown)}; known are: {', '.join(VENDORS)}."
        )
    return required


def _run(vendor: str, arguments: Sequence[str]) -> Outcome:
    print(f"\n=== {vendor} ===", flush=True)
    if vendor == "sqlite":
        return run_pass(vendor, None, arguments)
    # The server's driver and programs are needed only here.
    try:
        from tests.postgres import PostgresUnavailable
    except ImportError as error:
        return _absent(f"its driver cannot be imported: {error}")
    try:
        with _server() as url:
            return run_pass(vendor, url, arguments)
    except PostgresUnavailable as error:
        return _absent(str(error))


@contextmanager
def _server() -> Iterator[str]:
    import psycopg

    from tests.postgres import PostgresUnavailable, running_server

    if url := os.environ.get("TEST_DATABASE_URL"):
        try:
            psycopg.connect(url, connect_timeout=10).close()
        except psycopg.Error as error:
            raise PostgresUnavailable(f"TEST_DATABASE_URL: {error}") from error
        yield url
    else:
        with running_server() as url:
            yield url


def _absent(message: str) -> Outcome:
    reason = message.partition("\n")[0]
    print(f"SKIPPED: no PostgreSQL: {reason}", flush=True)
    return Outcome(problem=f"not run: {reason}")


def _report(outcomes: dict[str, Outcome], required: Sequence[str]) -> int:
    """Print a line for each database and, last, the sum; return the exit status."""
    print("\n=== tests by database ===")
    passed = failed = 0
    for vendor, outcome in outcomes.items():
        absent = outcome.problem.startswith("not run")
        passed += outcome.passed
        failed += outcome.failed + (absent and vendor in required)
        print(f"{vendor}: {outcome}{', but required' if absent and vendor in required else ''}")
    print(f"{passed} passed, {failed} failed", flush=True)
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
