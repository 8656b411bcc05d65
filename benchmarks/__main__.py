"""
``python -m benchmarks CASE … [--json FILE]``: measure, print what was reached.

``all`` measures every case; ``smoke`` tries every one of ours at a tiny size; ``report FILE``
renders a file again without measuring.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

# Nothing that is imported here may need Django's settings: they depend on what is measured.
from benchmarks import measuring
from benchmarks.results import Mismatch, Results


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.cases[0] == "report":
        return _report(options.cases[1:])
    command = " ".join(["python -m benchmarks", *arguments])
    # It takes a server of its own, which nothing else needs.
    with_mariadb = bool({"all", "mariadb"} & set(options.cases))
    with measuring.prepared(with_mariadb) as server:
        try:
            results = _measure(options, server, command)
        except Mismatch as error:
            raise SystemExit(str(error)) from error
    return _print(results)


def _measure(options: argparse.Namespace, server: str, command: str) -> Results:
    from django.db import connection

    from benchmarks.bench import Bench
    from benchmarks.cases import CASES
    from benchmarks.peers.roster import chosen
    from benchmarks.processes import start_copies
    from tests.databases import database_url

    smoke = options.cases == ["smoke"]
    names = options.cases
    if names in (["all"], ["smoke"]):
        names = [name for name in CASES if not smoke or name != "mariadb"]
    if unknown := [name for name in names if name not in CASES]:
        raise SystemExit(f"There is no case {unknown[0]!r}; there are: {', '.join(CASES)}.")
    cases = [CASES[name] for name in names if connection.vendor in CASES[name].databases]
    peers = chosen("" if smoke or connection.vendor != "postgresql" else options.peers)
    if smoke and connection.vendor == "postgresql":
        start_copies(database_url(connection.settings_dict))
    bench = Bench(server, options.rows, options.runs, peers, smoke)
    # All cases take the place of all that were measured before.
    earlier, kept = _earlier(None if names == list(CASES) else options.json), Results()
    for results in measuring.measure(cases, bench, command):
        # After each case: whatever ends a long measurement, what there is by then is kept.
        kept = results.merged_with(earlier)
        if options.json:
            kept.save(options.json)
    return kept


def _earlier(path: Path | None) -> Results:
    return Results.load(path) if path is not None and path.exists() else Results()


def _print(results: Results) -> int:
    """The table; the status says whether every case that ran could be measured and was proven."""
    from benchmarks.report import terminal

    print(terminal.rendered(results))
    return int(any(each.error for each in results.cases.values()))


def _report(paths: Sequence[str]) -> int:
    from benchmarks.report import files, terminal

    for path in map(Path, paths):
        results = Results.load(path)
        print(terminal.rendered(results))
        files.write(results, path.parent)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("cases", nargs="+", help="names of cases; all; smoke; or: report FILE")
    parser.add_argument("--rows", type=int, help="rows to measure (default: each case's own)")
    parser.add_argument("--runs", type=int, help="runs of each (default: each case's own)")
    parser.add_argument("--peers", help="names, separated by commas (default: all; '': none)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write or add to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
