"""The sums that have to add up when all is done: what was said, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.db.models import Count, F, Q, Sum

from django_fsmworker.models import Event
from testapp.models import Booking, TradeOrder, TradeStates
from testapp.trading.plan import SOURCES, Step, steps_of

Kind = Booking.Kind


@dataclass(frozen=True)
class Said:
    """How many events were submitted, how many pieces they fill and how much they pay."""

    events: int
    pieces: int
    money: int

    @classmethod
    def of(cls, number: int) -> Said:
        """By all sources, of so many orders; what came twice counts once."""
        steps: list[Step] = [step for source in SOURCES for step in steps_of(source, number)]
        return cls(
            len(steps),
            sum(step.context.get("quantity", 0) for step in steps),
            sum(step.context.get("amount", 0) for step in steps),
        )


@dataclass(frozen=True)
class Sums:
    """What the database has to it."""

    said: Said

    @cached_property
    def events(self) -> dict[str, int]:
        """The events by what became of them."""
        events = Event.objects.filter(model=TradeOrder._meta.label).order_by()
        return dict(events.values_list("state").annotate(Count("pk")))

    @cached_property
    def booked(self) -> dict[str, int]:
        """What was booked of each kind."""
        return dict(Booking.objects.order_by().values_list("kind").annotate(Sum("amount")))

    @cached_property
    def wrong(self) -> list[str]:
        """Sentences about what does not add up; none if all does."""
        return [sentence for sentence, holds in self._equations() if not holds]

    @property
    def adds_up(self) -> bool:
        """Whether everything does."""
        return not self.wrong

    def lines(self) -> Iterator[str]:
        """The sums, for people."""
        orders = dict(TradeOrder.objects.order_by().values_list("state").annotate(Count("pk")))
        yield ""
        for name, state in TradeStates.states.items():
            yield f"  {state.label!s:<18}{orders.get(name, 0):>8,}"
        yield ""
        for sentence, holds in self._equations():
            yield f"{sentence}: " + ("it adds up." if holds else "IT DOES NOT ADD UP.")

    def _equations(self) -> Iterator[tuple[str, bool]]:
        said, events, booked = self.said, self.events, self.booked
        ends = [name for name in ("delivered", "discarded") if events.get(name)]
        yield (
            f"events: {' + '.join(f'{events[name]:,} {name}' for name in ends) or 'none'}, "
            f"submitted {said.events:,}",
            sum(events.values()) == sum(events[name] for name in ends) == said.events,
        )
        fills, refused = booked.get(Kind.FILL, 0), booked.get(Kind.REFUSED, 0)
        yield (
            f"pieces: {fills:,} filled + {refused:,} refused, submitted {said.pieces:,}",
            fills + refused == said.pieces,
        )
        paid, back = booked.get(Kind.PAYMENT, 0), booked.get(Kind.PAID_BACK, 0)
        yield (
            f"money: {paid:,} paid + {back:,} paid back, submitted {said.money:,}",
            paid + back == said.money,
        )
        differing = self._orders_that_differ()
        yield f"orders that differ from their bookings: {differing:,}", not differing
        misplaced = _misplaced().count()
        yield (
            f"orders whose state is not what their fills come to: {misplaced:,}",
            (not misplaced),
        )

    @staticmethod
    def _orders_that_differ() -> int:
        orders = TradeOrder.objects.annotate(
            fills=Sum("bookings__amount", filter=Q(bookings__kind=Kind.FILL), default=0),
            payments=Sum("bookings__amount", filter=Q(bookings__kind=Kind.PAYMENT), default=0),
        )
        return orders.exclude(filled=F("fills"), paid=F("payments")).count()


def _misplaced() -> Any:
    """More than was ordered, or all of it in another state, or less in that one."""
    all_of_it = Q(filled=F("quantity"))
    return TradeOrder.objects.filter(
        Q(filled__gt=F("quantity"))
        | (all_of_it & ~Q(state="filled"))
        | (~all_of_it & Q(state="filled"))
    )
