"""What may be a guard: a condition that a database can evaluate.

Django's own have an attribute ``conditional`` that says so (``Q``, ``Exists``, lookups, expressions
that are true or false), which is all that is asked here: a graph is plain Python.
"""

from __future__ import annotations


def not_a_condition(when: object) -> str | None:
    """What is wrong with ``when=…``; None if nothing is."""
    if callable(when):
        return (
            f"when={when!r} is called by nobody, because a guard is asked in the database; give a"
            " condition such as Q(paid=True), and write what needs Python in the check."
        )
    if getattr(when, "conditional", False) is not True:
        return (
            f"when={when!r} is not a condition of the database; give a Q, an Exists or a lookup,"
            " such as Q(paid=True)."
        )
    return None
