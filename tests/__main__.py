"""
``python -m tests [--database NAME] [pytest's arguments]``: run the tests once on each database.

Several databases are taken side by side, in three sessions each. PostgreSQL and MariaDB are started
for the run, unless ``TEST_DATABASE_URL`` and ``TEST_MYSQL_URL`` name servers. The databases in
``REQUIRE_DATABASES`` (comma-separated) have to be there: an absent one is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from tests.databases import NAMES, URL_VARIABLES, VENDORS
from tests.parallel_sessions import run_in_parallel
from tests.servers import ServerUnavailable
from tests.sessions import Outcome, run_session

# Their drivers and programs are needed only when their turn comes.
LAUNCHERS = {"postgresql": "tests.postgres", "mysql": "tests.mariadb"}
# Into how many sessions the tests on a database are split: enough to even out which takes longest.
PARTS = 3


def main(arguments: Sequence[str]) -> int:
    options, for_pytest = _parser().parse_known_args(arguments)
    chosen = list(dict.fromkeys(options.database or VENDORS))
    required = _required()
    # A shell's background ignores SIGINT, and so would every process that a test starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Stopped from outside, the run still stops its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    if options.outcome:
        (vendor,) = chosen
        options.outcome.write_text(json.dumps(asdict(_run(vendor, for_pytest))))
        return 0
    outcomes = {vendor: Outcome(problem="not run") for vendor in required if vendor not in chosen}
    if len(chosen) == 1:
        outcomes[chosen[0]] = _run(chosen[0], for_pytest)
    else:
        outcomes |= run_in_parallel(_sessions(chosen, for_pytest))
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
    # For the passes that run side by side: where to say what came of one.
    parser.add_argument("--outcome", type=Path, help=argparse.SUPPRESS)
    return parser


def _sessions(chosen: Sequence[str], for_pytest: Sequence[str]) -> list[tuple[str, list[str]]]:
    """A vendor and arguments each; the first parts of all begin first."""
    sessions = []
    for part in range(1, PARTS + 1):
        for number, vendor in enumerate(chosen):
            # Few tests are not worth a second server, and one that was named has no place for two.
            whole = bool(for_pytest or os.environ.get(URL_VARIABLES.get(vendor, "")))
            if whole and part > 1:
                continue
            # What hardly depends on the database runs in the first pass only.
            once = ["--second-pass"] if number else []
            parts = [] if whole else [f"--part={part}/{PARTS}"]
            sessions.append((vendor, [*once, *parts, *for_pytest]))
    return sessions


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
        return run_session(vendor, None, arguments)
    try:
        with _server(vendor) as url:
            return run_session(vendor, url, arguments)
    except ServerUnavailable as error:
        return _absent(vendor, str(error))


@contextmanager
def _server(vendor: str) -> Iterator[str]:
    try:
        launcher = import_module(LAUNCHERS[vendor])
    except ImportError as error:
        raise ServerUnavailable(f"its driver cannot be imported: {error}") from error
    if url := os.environ.get(URL_VARIABLES[vendor]):
        try:
            launcher.reach(url)
        except ServerUnavailable as error:
            raise ServerUnavailable(f"{URL_VARIABLES[vendor]}: {error}") from error
        yield url
    else:
        with launcher.running_server(**launcher.THROWAWAY) as url:
            yield url


def _absent(vendor: str, message: str) -> Outcome:
    reason = message.partition("\n")[0]
    print(f"SKIPPED: no {NAMES[vendor]}: {reason}", flush=True)
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
