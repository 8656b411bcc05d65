"""What the transition log keeps of a move: of rows whose model has ``log_transitions = True``.

An entry is written in the transaction of the move that it is about, by whoever writes that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from django_fsmworker.graph import State
from django_fsmworker.models.engine import engine
from django_fsmworker.models.functions import update_row
from django_fsmworker.models.keys import declaring_model, key_name
from django_fsmworker.models.locking import keys_states_and_claims

LONGEST_NAME, LONGEST_REASON = 200, 500


def logs_transitions(model: Any) -> bool:
    """Whether the rows of ``model`` have a log; what the model that declares the state says."""
    return bool(declaring_model(model).log_transitions)


@dataclass(slots=True)
class LoggedMove:
    """One entry, but for its moment; texts are ``storable()``.

    ``pk`` is the key of the row with the state. ``source`` and ``entered``, when the row entered
    it, are left out where the database knows them.
    """

    pk: Any
    target: str
    cause: str
    source: str = ""
    entered: datetime | None = None
    trigger: str = ""
    by: str = ""
    reason: str = ""
    worker: str = ""
    attempt: int | None = None

    @property
    def shared(self) -> tuple[Any, ...]:
        """What many moves of a batch have in common, in the order of ``SHARED``."""
        return (
            self.target,
            self.cause,
            self.trigger,
            self.by,
            self.reason,
            self.worker,
            self.attempt,
        )


SHARED = ("target", "cause", "trigger", "by", "reason", "worker", "attempt")

Logging = Callable[..., LoggedMove]
"""Makes the entry of a row: of its key and, where they are known, ``source`` and ``entered``."""


def by_hand(target: State, cause: str, by: Any, reason: str, trigger: str = "") -> Logging:
    """What makes the entries of rows that code moves to ``target``."""
    return partial(
        LoggedMove,
        target=target.name,
        cause=cause,
        trigger=trigger,
        by="" if by is None else storable(str(by), LONGEST_NAME),
        reason=storable(reason, LONGEST_REASON),
    )


def write_logged(
    row: QuerySet[Any], condition: Q, values: dict[str, Any], names: list[str], move: LoggedMove
) -> dict[str, Any] | None:
    """As ``update_row()``, and log the move.

    The log comes first: that locks the row, and reads from it what the write overwrites.
    """
    with transaction.atomic(using=row.db):
        if not engine().log_move(row.filter(condition), move):
            return None
        read = update_row(row, condition, values, names)
        if read is None:  # a failure was just noted, or a trigger drops the write
            transaction.set_rollback(True, using=row.db)
        return read


def log_locked(rows: QuerySet[Any], logging: Logging) -> list[tuple[Any, str, int | None]]:
    """Key, state and token of each of ``rows``, which are locked as they are read.

    Where there is a log, it says of each that it moves.
    """
    if not logs_transitions(rows.model):
        return keys_states_and_claims(rows)
    columns = ("state", "state_claim", "state_changed", key_name(rows.model))
    # A join may bring a row twice.
    found = {key: others for *others, key in rows.values_list(*columns)}
    moves = [
        logging(key, source=source, entered=entered) for key, (source, _, entered) in found.items()
    ]
    engine().log_moves(declaring_model(rows.model), moves, rows.db)
    return [(key, source, claim) for key, (source, claim, _) in found.items()]


def storable(text: str, longest: int) -> str:
    """``text`` as every database takes it, shortened: some have no place for some characters."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()[:longest]
