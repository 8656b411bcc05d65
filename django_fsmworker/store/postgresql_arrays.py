"""Arrays in PostgreSQL's text format (its manual, "Array Input and Output Syntax")."""

from __future__ import annotations

from collections.abc import Iterable


def array(values: Iterable[object]) -> str:
    """Numbers, booleans, names of states and None, for a parameter that is cast to an array.

    None of these needs an escape: a state's name is a Python identifier, which is quoted all the
    same, since one may be called ``null``. The driver looks at the type of each element instead,
    which takes four times as long: eight arrays of a thousand rows for every settling. Most of
    those hold one value only, a thousand times.
    """
    found = list(values)
    if found and found.count(found[0]) == len(found):
        return f"{{{','.join([_element(found[0])] * len(found))}}}"
    return f"{{{','.join(map(_element, found))}}}"


def _element(value: object) -> str:
    if value is None:
        return "NULL"
    return f'"{value}"' if isinstance(value, str) else str(value)
