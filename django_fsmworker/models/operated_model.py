"""The verbs of a row for people: what to do about one that is in trouble."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async

from django_fsmworker.graph.durations import Duration
from django_fsmworker.models.engine import engine
from django_fsmworker.models.explanation import Explanation
from django_fsmworker.models.logged_model import LoggedModel
from django_fsmworker.models.operating import Cancel, Park, Retry, Unpark, operate_on


class OperatedModel(LoggedModel):
    """The part of ``StatorModel`` with the verbs of operators.

    None of them moves the row: it stays in its state, and its timeout counts from when it entered
    that. ``by``, a user or the name of a program, and ``reason`` are for the log, and for the
    failure record of a parked row. Afterwards the instance shows the row as it is.

    Each raises ``ValueError`` if a state column was assigned and not saved, and the model's
    ``DoesNotExist`` if the row is gone.
    """

    class Meta:
        abstract = True

    def state_retry(self, *, by: Any = None, reason: str = "") -> bool:
        """Make the row due now, with all its attempts: one that failed, is parked, or due later.

        False means that nothing was written: the row is due already, or a runner holds it. Raises
        ``NotAllowed`` (``"source_state"``) in a state in which nothing is run.
        """
        return operate_on(Retry(type(self), by, reason), self)

    state_retry.alters_data = True  # type: ignore[attr-defined]

    def state_park(self, reason: str, *, by: Any = None) -> bool:
        """Keep the row from being run, and from timing out, until it is unparked or moved.

        A check that runs on it is ended. Who parked it, when and why is in ``failure``. A row that
        is parked already is parked for the new reason. Raises ``NotAllowed`` (``"source_state"``)
        in a state in which a runner has nothing to do: a terminal one, or a manual one without a
        timeout; and ``ValueError`` if ``reason`` is empty. Rows are deleted after ``delete_after``
        all the same.
        """
        return operate_on(Park(type(self), by, reason), self)

    def state_unpark(self, *, by: Any = None, reason: str = "") -> bool:
        """Make a parked row due again; False if it is not parked.

        One that was parked by hand has the failures that it had before; one that failed for good
        where it is has all its attempts again.
        """
        return operate_on(Unpark(type(self), by, reason), self)

    state_unpark.alters_data = True  # type: ignore[attr-defined]

    def state_cancel(
        self, *, retry_in: Duration | None = None, by: Any = None, reason: str = ""
    ) -> bool:
        """End the check that runs on the row, without a failure; False if none does.

        Whoever runs it interrupts it at the next renewal of its lease, at once with hints; what it
        answers is dropped. The row is due again ``retry_in`` seconds (or a ``timedelta``) after
        this call, by default after the ``retry_after`` of its state. To end it and keep the row
        from being run, park it.
        """
        return operate_on(Cancel(type(self), by, reason, retry_in), self)

    state_cancel.alters_data = True  # type: ignore[attr-defined]

    def state_explain(self) -> Explanation:
        """Why the row does not move, as it is in the database now: the reasons, with their evidence
        and what would unblock it.

        It agrees with what a claim does, and changes nothing; it takes a few queries. Raises the
        model's ``DoesNotExist`` if the row is gone.
        """
        return engine().explain(self)

    async def astate_explain(self) -> Explanation:
        """``state_explain()`` for async code."""
        return await sync_to_async(self.state_explain)()

    async def astate_retry(self, *, by: Any = None, reason: str = "") -> bool:
        """``state_retry()`` for async code."""
        return await sync_to_async(self.state_retry)(by=by, reason=reason)

    async def astate_park(self, reason: str, *, by: Any = None) -> bool:
        """``state_park()`` for async code."""
        return await sync_to_async(self.state_park)(reason, by=by)

    async def astate_unpark(self, *, by: Any = None, reason: str = "") -> bool:
        """``state_unpark()`` for async code."""
        return await sync_to_async(self.state_unpark)(by=by, reason=reason)

    async def astate_cancel(
        self, *, retry_in: Duration | None = None, by: Any = None, reason: str = ""
    ) -> bool:
        """``state_cancel()`` for async code."""
        return await sync_to_async(self.state_cancel)(retry_in=retry_in, by=by, reason=reason)
