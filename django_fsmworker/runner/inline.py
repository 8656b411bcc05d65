"""What a row's own verbs do without a runner: at once, on the caller's thread and connection."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from django.db import router, transaction

from django_fsmworker.conf import RunnerSettings
from django_fsmworker.graph import State
from django_fsmworker.graph.durations import earliest
from django_fsmworker.models.discovery import declaring_model, refuse_children
from django_fsmworker.models.hinting import announce, announce_entered
from django_fsmworker.models.saving import present_columns, read_back, stored
from django_fsmworker.runner.checking.atomic import undone_if_failed
from django_fsmworker.runner.guards.deciding import by_guard
from django_fsmworker.runner.identity import worker_name
from django_fsmworker.runner.judging.one import judge_here, refuse_running_loop
from django_fsmworker.runner.settling.writing import tell, tell_expired, write
from django_fsmworker.store import Lane, store_for
from django_fsmworker.store.errors import is_contention
from django_fsmworker.store.expiry import expire
from django_fsmworker.store.hints import hints_for


class InlineEngine:
    """Installed behind ``models.door``."""

    def claim(self, model: Any, number: int, lease: float, using: str) -> list[Any]:
        """Claim up to ``number`` due rows, oldest first whatever their states."""
        refuse_children([model])
        lanes = [Lane(state, number) for state in model.state_graph.states]
        store = store_for(using)
        rows = store.claim(model, lanes, lease)
        self._hand_back(store, model, rows[number:])
        return rows[:number]

    def check(self, row: Any) -> State | None:
        """Ask the row's guards, or run its check, and write what came of it.

        Fenced by state and token as loaded.
        """
        model = declaring_model(type(row))
        refuse_running_loop([model], "state_transition_check()")
        using = router.db_for_write(model, instance=row)
        deferred = row.get_deferred_fields().intersection(present_columns(type(row)))
        if deferred:  # the check begins with all of them, as they are where they will be written
            row.refresh_from_db(using=using, fields=deferred)
        if row.state_claim is not None:  # to be written where it was claimed
            using = row._state.db
        store = store_for(using)
        age = (store.now() - row.state_changed).total_seconds()
        state = model.state_graph.get(row.state)
        with store.transaction() if state.atomic else nullcontext():
            outcome = by_guard(store, row, age) or (
                undone_if_failed(store, lambda: judge_here(row, age))
                if state.atomic
                else judge_here(row, age)
            )
            written = write(store, model, [outcome], worker_name())
            if state.atomic and not written:
                transaction.set_rollback(True, using=using)
        if stored(row, using).exists():
            read_back(row, using)
        if not written:
            return None
        tell(model, [outcome], using)
        announce(model, using, earliest(outcome.delay, outcome.timeout))
        announce_entered(model, using, [outcome.target] if outcome.moved else [])
        target: State = model.state_graph.states[outcome.target]
        return target if outcome.moved else None

    def expire(self, model: Any, using: str) -> int:
        """Delete one batch a state of what has outlived it; how many rows went."""
        refuse_children([model])
        model = declaring_model(model)  # a proxy's rows are deleted as those of its model
        store, limit, number = store_for(using), RunnerSettings.load().delete_batch, 0
        for state in model.state_graph.deletion_states:
            deleted = expire(store, model, state, limit, (), worker_name()).deleted
            tell_expired(model, deleted, state.name, using)
            number += len(deleted)
        return number

    def hint(self, payload: str, using: str) -> bool:
        """Send a hint on the calling thread's connection."""
        hints = hints_for(using)
        return hints is not None and hints.notify(payload)

    def is_contention(self, error: BaseException) -> bool:
        """Whether two transactions were in each other's way."""
        return is_contention(error)

    @staticmethod
    def _hand_back(store: Any, model: Any, rows: list[Any]) -> None:
        from django_fsmworker.store import Hold

        if rows:
            store.hand_back(model, [Hold(row.pk, row.state_claim, row.state) for row in rows])
