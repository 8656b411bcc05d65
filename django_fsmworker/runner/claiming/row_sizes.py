"""How much memory the rows in hand take: an estimate, from a few rows of each claim."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from itertools import islice
from typing import Any

from django.db import models

MEGABYTE = 2**20
NO_LIMIT = sys.maxsize

# Bytes of an instance and its attempt without what its wide columns hold.
SMALL_ROW = 2_000
LONGEST_SHORT_TEXT = 1_000

# The rows that a claim takes of a model with wide columns, before any of its rows was seen.
FIRST_CLAIM = 10

# The rows of a claim that are looked at: fewer while those seen before were small.
MOST_SAMPLED, FEW_SAMPLED = 32, 4
STILL_SMALL = 4 * SMALL_ROW

# How far an estimate follows rows that are smaller than those before; it follows larger ones at
# once.
DECLINE = 0.3

# Of a container, so many parts are looked at, so many levels deep; the others are taken to be like
# them.
PARTS, LEVELS = 8, 4

NARROW = (
    models.BooleanField,
    models.DateField,
    models.DecimalField,
    models.DurationField,
    models.FloatField,
    models.ForeignKey,
    models.GenericIPAddressField,
    models.IntegerField,
    models.TimeField,
    models.UUIDField,
)


class RowSizes:
    """The size of a row of each model, and the bytes that all rows in hand may take.

    ``megabytes`` is that bound, 0 for none. A model without a wide column (text without a length,
    JSON, binary data, and whatever is not known to be narrow) costs a look-up: its rows count as
    small. All belongs to the main loop.
    """

    def __init__(self, megabytes: int) -> None:
        self.limit = megabytes * MEGABYTE or NO_LIMIT
        self._expected: dict[Any, float] = {}

    def seen(self, model: Any, rows: Sequence[Any]) -> int:
        """The bytes of one of the ``rows`` of a claim, on average; the next are expected to be
        like them.
        """
        names = wide_columns(model) if rows else ()
        if not names:
            return SMALL_ROW
        known = self._expected.get(model)
        most = MOST_SAMPLED if known is None or known > STILL_SMALL else FEW_SAMPLED
        sample = rows[:: -(-len(rows) // most)]
        held = sum(size_of(row.__dict__.get(name)) for row in sample for name in names)
        size = SMALL_ROW + held / len(sample)
        declined = size if known is None else known + DECLINE * (size - known)
        self._expected[model] = max(size, declined)
        return int(size)

    def rows(self, model: Any, left: float) -> int:
        """The number of rows of ``model`` that may be claimed where ``left`` bytes are left.

        As long as there are any it is one at the least, so that no row is too large to be run.
        """
        if left <= 0:
            return 0
        expected = self._expected.get(model)
        if expected is None and self.limit < NO_LIMIT and _may_be_large(model):
            return FIRST_CLAIM
        return -int(-left // (expected or SMALL_ROW))


@cache
def wide_columns(model: Any) -> tuple[str, ...]:
    """The attributes of the columns of ``model`` that may hold much."""
    return tuple(field.attname for field in model._meta.concrete_fields if not _is_narrow(field))


def _may_be_large(model: Any) -> bool:
    """Whether rows are not known to be small before one was seen; a history grows slowly."""
    return any(name != "state_history" for name in wide_columns(model))


def _is_narrow(field: Any) -> bool:
    if isinstance(field, NARROW):
        return True
    if isinstance(field, models.CharField):
        return field.max_length is not None and field.max_length <= LONGEST_SHORT_TEXT
    return isinstance(field, models.FileField)  # its column is a path


def size_of(value: Any, levels: int = LEVELS) -> float:
    """The bytes of a column's value, roughly; what it takes does not grow with the value."""
    size = float(sys.getsizeof(value))
    if not levels or not isinstance(value, dict | list | tuple):
        return size + (value.nbytes if isinstance(value, memoryview) else 0)
    parts = islice(value.items(), PARTS) if isinstance(value, dict) else value[:: _step(value)]
    sizes = [size_of(part, levels - 1) for part in parts]
    return size + (sum(sizes) / len(sizes) * len(value) if sizes else 0)


def _step(parts: Sequence[Any]) -> int:
    return max(1, -(-len(parts) // PARTS))
