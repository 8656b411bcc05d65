"""The events of one locked row, in their order, and how far their delivery has come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from django_fsmworker.events.refusing import sentences_of
from django_fsmworker.models.event import Event
from django_fsmworker.models.keys import key_of
from django_fsmworker.store.fence import taken_over

# Seconds after which events are looked at again that wait for one somebody else has to try first.
AFTER_ANOTHER, WHILE_PARKED = 0.2, 5.0

ASKED_FOR_LATER = "Its action asked for another try later."


class Line:
    """The events of ``row``, which is locked, as they were read at ``now`` by the database's clock.

    ``claimed`` are those that this process has claimed, by their keys, also of other rows. An event
    that has failed is tried ``alone``, so that it spoils no other; the row's other events wait
    meanwhile, if they are ``ordered``. ``stale``: the row may have changed since it was read, as it
    may if others have written more rows in its transaction than the ``writes`` until then.
    ``partial``: the row has more events, which may have to come first once it has moved.
    """

    def __init__(
        self,
        row: Any,
        events: Sequence[Event],
        claimed: Mapping[int, Event],
        now: datetime,
        *,
        ordered: bool,
        alone: int | None,
        partial: bool,
    ) -> None:
        self.row, self.key = row, key_of(row)  # an action may take the key from its instance
        self.events = list(events)
        self.partial = partial
        self.stale = self.moved = self.finished = False
        self.writes = 0
        self._claimed = claimed
        self._now = now
        self._ordered = ordered
        self._alone = alone
        self._at = 0
        self._ended: set[int] = set()
        self._waiting = {event.pk for event in self.events if self._waits(event)}

    def next(self) -> Event | None:
        """The event to be tried now; None if that was the last of this transaction."""
        while self._at < len(self.events) and not self.finished:
            event = self.events[self._at]
            if event.pk in self._ended or event.pk in self._waiting:
                self._at += 1
            elif self._is_for_others(event):
                self._hold(self._seconds_until(event))
            else:
                return event
        self.finished = True
        return None

    def ended(self, event: Event, *, moved: bool = False) -> None:
        """Go on after an event that has come to its end; from the first that waits, if it moved the
        row: in its new state it may take that.
        """
        self._ended.add(event.pk)
        self._at += 1
        if moved:
            self._has_moved()
        if event.pk == self._alone:
            self.finished = True

    def read_again(self, row: Any, writes: int) -> None:
        """Go on with the row as it is now; an action may have moved it, also that of another."""
        before, self.row = self.row, row
        self.stale, self.writes = False, writes
        if row.__dict__["state"] != before.__dict__["state"]:
            self._has_moved()

    def _has_moved(self) -> None:
        self.moved = True
        if self._waiting:
            self._at = min(at for at, each in enumerate(self.events) if each.pk in self._waiting)
            self._waiting.clear()
        if self.partial:
            self.finished = True

    def step_over(self, event: Event) -> None:
        """Go on after an event that the row does not take in its state."""
        self._waiting.add(event.pk)
        self._at += 1
        if event.pk == self._alone:
            self.finished = True

    def failed(self, event: Event) -> None:
        """Go on after an event whose action failed, unless the others have to wait for it."""
        self._ended.add(event.pk)
        self._at += 1
        if self._ordered or event.pk == self._alone:
            self.finished = True

    def held_up(self) -> Iterator[Event]:
        """The events that were not tried and that no other process has claimed.

        Those of them, too, that were not read, since they are far behind.
        """
        read = {event.pk for event in self.events}
        name = self.events[0].row_hash, self.events[0].row
        for event in self._claimed.values() if self.partial else ():
            if event.pk not in read and (event.row_hash, event.row) == name:
                yield event
        for event in self.events[self._at :]:
            known = event.pk in self._ended or event.pk in self._waiting
            if event.pk in self._claimed or (event.state_claim is None and not self._rests(event)):
                if not known:
                    yield event

    def stop(self) -> None:
        """Try no more events in this transaction."""
        self.finished = True

    hold_for: float | None = None
    """Seconds after which the events that were not tried are looked at again; None: at once."""

    def _hold(self, seconds: float) -> None:
        if self._ordered:
            self.hold_for, self.finished = seconds, True
        else:
            self._at += 1

    def _waits(self, event: Event) -> bool:
        """Whether the event was not taken the last time, and nothing has happened since.

        Whoever moves the row makes it due, with the same commit, unless somebody had it locked or
        the write failed. Until it is tried it must not be overtaken, so the row itself is asked.
        """
        return (
            event.reason in sentences_of(self.row.__dict__["state"])
            and self._rests(event)
            and event.state_failures == 0
        )

    def _rests(self, event: Event) -> bool:
        """Whether it is not the time to look at the event by itself."""
        return (
            event.state_claim is None
            and event.pk not in self._claimed
            and (event.state_next is None or event.state_next > self._now)
        )

    def _is_for_others(self, event: Event) -> bool:
        """Whether the event is to be tried alone, and not here."""
        if self._alone is not None:
            return event.pk != self._alone
        if event.state_failures > _lapses(event) or event.state_next is None:  # failed, or parked
            return True
        if event.reason == ASKED_FOR_LATER and self._rests(event):
            return True
        lapsed = event.state_lease is not None and event.state_lease <= self._now
        return lapsed and event.pk not in self._claimed

    def _seconds_until(self, event: Event) -> float:
        if event.state_next is None:
            return WHILE_PARKED
        return max(AFTER_ANOTHER, (event.state_next - self._now).total_seconds())


def _lapses(event: Event) -> int:
    """How many of the event's failures are the lapse for which its present claim took it over."""
    return int(event.state_claim is not None and taken_over(event.state_claim))


def has_failed(event: Event) -> bool:
    """Whether the event, as a claim returned it, is to be tried alone."""
    return event.state_failures > _lapses(event)
