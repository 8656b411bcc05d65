"""``python -m benchmarks.floor TABLE {plain,tuned}``: move every due row of a table."""

from __future__ import annotations

import random
import sys

import django
from django.db import connection

from benchmarks.floor import mysql, postgresql, sqlite
from benchmarks.runlog import noter

MODULES = {"postgresql": postgresql, "sqlite": sqlite, "mysql": mysql}


def main(table: str, style: str) -> None:
    """Claim, note each row as a check would, settle; until nothing is due."""
    django.setup()
    floor = MODULES[connection.vendor].Floor(table, tuned=style == "tuned")
    note = noter()
    with connection.cursor() as cursor:
        while keys := floor.claim(cursor, token := random.getrandbits(62)):
            for key in keys:
                note(key)
            floor.settle(cursor, keys, token)


if __name__ == "__main__":
    main(*sys.argv[1:])
