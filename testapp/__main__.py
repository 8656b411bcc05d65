"""See what this package does: ``demo [FOLDER]`` on files, ``orders N`` with events, ``admin``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "demo": "testapp.demo.command",
    "orders": "testapp.trading.command",
    "admin": "testapp.admin_demo.command",
}
USAGE = """\
usage: python -m testapp demo [FOLDER] [options]
       python -m testapp orders N [options]
       python -m testapp admin [options]
Each tells more with --help."""


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        print(USAGE, file=sys.stderr)
        return 2
    command, *rest = arguments
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testapp.settings")
    # With DEBUG on, Django keeps every query in memory.
    os.environ["DEBUG"] = "0"
    import django
    from django.core.exceptions import ImproperlyConfigured

    try:
        django.setup()
    except (ImproperlyConfigured, OSError) as error:
        print(f"{command}: {error}; look at DATABASE_URL and DATA_DIR.", file=sys.stderr)
        return 1
    run = import_module(COMMANDS[command]).run
    return int(run(rest))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
