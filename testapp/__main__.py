"""See what this package does: ``demo [FOLDER]`` on real files, ``orders N`` with events."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

USAGE = "usage: python -m testapp demo [FOLDER] [options], or: orders N; --help tells more of each"


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] not in ("demo", "orders"):
        print(USAGE, file=sys.stderr)
        return 2
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testapp.settings")
    # With DEBUG on, Django keeps every query in memory.
    os.environ["DEBUG"] = "0"
    import django
    from django.core.exceptions import ImproperlyConfigured

    try:
        django.setup()
    except (ImproperlyConfigured, OSError) as error:
        print(f"{arguments[0]}: {error}; look at DATABASE_URL and DATA_DIR.", file=sys.stderr)
        return 1
    if arguments[0] == "demo":
        from testapp.demo.command import run
    else:
        from testapp.trading.command import run
    return run(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
