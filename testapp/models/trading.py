"""Orders that people and programs move: filled by an exchange, paid by a bank, held and approved.

Nothing is run in these states: every move is an event, sent now from a page (``testapp.views``) or
durably by programs (``python -m testapp orders``). What an event has done is a ``Booking``.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from django_fsmworker.graph import EventInfo, State, StateGraph
from django_fsmworker.models import StateField, StatorModel

APPROVE = "testapp.approve_tradeorder"


class TradeStates(StateGraph):
    open = State(manual=True, force_initial=True, label=_("open"))
    partially_filled = State(manual=True, label=_("partially filled"))
    held = State(manual=True, label=_("held"))
    filled = State(label=_("filled"))
    cancelled = State(label=_("cancelled"))
    expired = State(label=_("expired"))

    # The exchange: a fill is booked, or refused where it is more than was ordered, or too late.
    # An order that is held declares none: its fills wait until somebody approves it.
    open.on("fill", to=filled, when="is_last", action="book_fill", permission="no_person")
    open.on("fill", to=partially_filled, when="fits", action="book_fill", permission="no_person")
    open.on("fill", action="refuse_fill", permission="no_person")
    partially_filled.on(
        "fill", to=filled, when="is_last", action="book_fill", permission="no_person"
    )
    partially_filled.on("fill", when="fits", action="book_fill", permission="no_person")
    partially_filled.on("fill", action="refuse_fill", permission="no_person")
    filled.on("fill", action="refuse_fill", permission="no_person")
    cancelled.on("fill", action="refuse_fill", permission="no_person")
    expired.on("fill", action="refuse_fill", permission="no_person")

    # Its customer, by the page, or the bank, which gets back what is not owed.
    open.on("pay", when="is_owed", action="book_payment", permission="is_theirs",
            form="testapp.forms.PaymentForm", label=_("Pay"))  # fmt: skip
    open.on("pay", action="pay_back", permission="no_person")
    partially_filled.on("pay", when="is_owed", action="book_payment", permission="is_theirs",
                        form="testapp.forms.PaymentForm", label=_("Pay"))  # fmt: skip
    partially_filled.on("pay", action="pay_back", permission="no_person")
    held.on("pay", when="is_owed", action="book_payment", permission="is_theirs",
            form="testapp.forms.PaymentForm", label=_("Pay"))  # fmt: skip
    held.on("pay", action="pay_back", permission="no_person")
    filled.on("pay", when="is_owed", action="book_payment", permission="is_theirs",
              form="testapp.forms.PaymentForm", label=_("Pay"))  # fmt: skip
    filled.on("pay", action="pay_back", permission="no_person")
    cancelled.on("pay", action="pay_back", permission="no_person")
    expired.on("pay", action="pay_back", permission="no_person")

    # People. A durable event of theirs that comes too late is not kept.
    open.on("hold", to=held, permission=APPROVE, label=_("Hold"), unhandled="discard")
    partially_filled.on("hold", to=held, permission=APPROVE, label=_("Hold"))
    held.on("approve", to=partially_filled, when=Q(filled__gt=0), permission=APPROVE,
            label=_("Approve"), unhandled="discard")  # fmt: skip
    held.on("approve", to=open, permission=APPROVE, label=_("Approve"))
    open.on("cancel", to=cancelled, permission="is_theirs", label=_("Cancel"), unhandled="discard")
    partially_filled.on("cancel", to=cancelled, permission="is_theirs", label=_("Cancel"))
    held.on("cancel", to=cancelled, permission="is_theirs", label=_("Cancel"))

    # The end of its time, which is submitted with the order, and fires then.
    open.on("expire", to=expired, permission="no_person", unhandled="discard")
    partially_filled.on("expire", to=expired, permission="no_person")
    held.on("expire", to=expired, permission="no_person")

    @classmethod
    def is_last(cls, order: TradeOrder, event: EventInfo) -> bool:
        return bool(order.filled + event.context.get("quantity", 0) == order.quantity)

    @classmethod
    def fits(cls, order: TradeOrder, event: EventInfo) -> bool:
        return bool(order.filled + event.context.get("quantity", 0) < order.quantity)

    @classmethod
    def is_owed(cls, order: TradeOrder, event: EventInfo) -> bool:
        # A page that only asks what is possible gives no amount.
        return bool(order.paid + event.context.get("amount", 1) <= order.quantity * order.price)

    @classmethod
    def no_person(cls, order: TradeOrder, user: Any) -> bool:
        """Permissions are asked for people only: programs, known by a name, may always."""
        return False

    @classmethod
    def is_theirs(cls, order: TradeOrder, user: Any) -> bool:
        return bool(user.get_username() == order.customer or user.has_perm(APPROVE))

    @classmethod
    def book_fill(cls, order: TradeOrder, event: EventInfo) -> None:
        order.filled += event.context["quantity"]
        order.book(Booking.Kind.FILL, event.context["quantity"], event)

    @classmethod
    def refuse_fill(cls, order: TradeOrder, event: EventInfo) -> None:
        order.book(Booking.Kind.REFUSED, event.context["quantity"], event)

    @classmethod
    def book_payment(cls, order: TradeOrder, event: EventInfo) -> None:
        order.paid += event.context["amount"]
        order.book(Booking.Kind.PAYMENT, event.context["amount"], event)

    @classmethod
    def pay_back(cls, order: TradeOrder, event: EventInfo) -> None:
        order.book(Booking.Kind.PAID_BACK, event.context["amount"], event)


class TradeOrder(StatorModel):
    """So many pieces at a price each; what an action assigns to it is saved with the transition."""

    state = StateField(TradeStates)
    customer = models.CharField(_("customer"), max_length=150)
    quantity = models.PositiveIntegerField(_("quantity"))
    price = models.PositiveIntegerField(_("price"), default=1)
    filled = models.PositiveIntegerField(_("filled"), default=0, editable=False)
    paid = models.PositiveIntegerField(_("paid"), default=0, editable=False)

    class Meta:
        verbose_name = _("order of a trade")
        verbose_name_plural = _("orders of trades")
        permissions = (("approve_tradeorder", "Can hold and approve orders"),)

    def __str__(self) -> str:
        return f"order {self.pk} of {self.customer}"

    def book(self, kind: str, amount: int, event: EventInfo) -> None:
        """Note what the event has done, in the transaction in which it is done."""
        Booking.objects.using(self._state.db).create(
            order=self, kind=kind, amount=amount, event=event.id, by=str(event.by or "")
        )


class Booking(models.Model):
    """What one event has done to its order; ``event`` is its id, if it was a durable one."""

    class Kind(models.TextChoices):
        FILL = "fill", _("fill")
        REFUSED = "refused", _("refused fill")
        PAYMENT = "payment", _("payment")
        PAID_BACK = "paid_back", _("paid back")

    order = models.ForeignKey(TradeOrder, models.CASCADE, related_name="bookings")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    amount = models.PositiveIntegerField()
    event = models.BigIntegerField(null=True)
    by = models.CharField(max_length=150, blank=True)

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.amount}"
