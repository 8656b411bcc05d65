"""``python -m testapp demo [FOLDER]``: see what this package does, on real files."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

USAGE = "usage: python -m testapp demo [FOLDER] [options]; python -m testapp demo --help tells more"


def main(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] != "demo":
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
        print(f"demo: {error}; look at DATABASE_URL and DATA_DIR.", file=sys.stderr)
        return 1
    from testapp.demo.command import run

    return run(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
