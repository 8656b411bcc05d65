"""A page of orders: people approve, hold, cancel and pay, and read why that is refused."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from django_fsmworker.exceptions import NotAllowed
from testapp.forms import PaymentForm
from testapp.models import TradeOrder

SHOWN = 50
FORMS = {"pay": PaymentForm}
NOT_NOW = "This cannot be done in the present state."
BUTTONS = {"approve": "Approve", "hold": "Hold", "cancel": "Cancel", "pay": "Pay"}


@login_required
def orders(request: HttpRequest) -> HttpResponse:
    """The last orders."""
    return render(
        request, "testapp/orders.html", {"orders": TradeOrder.objects.order_by("-pk")[:SHOWN]}
    )


@login_required
def order(request: HttpRequest, pk: int) -> HttpResponse:
    """One order, what was booked on it, and a button for each event that people may send.

    All of them can be pressed: whether the order takes the event is decided when it is sent.
    """
    return _page(request, get_object_or_404(TradeOrder, pk=pk))


@login_required
@require_POST
def send(request: HttpRequest, pk: int, trigger: str) -> HttpResponse:
    """Send an event now, by whoever is logged in; that user's permissions count."""
    found, context = get_object_or_404(TradeOrder, pk=pk), {}
    if trigger in FORMS:
        form = FORMS[trigger](request.POST)
        if not form.is_valid():
            return _page(request, found, form, status=422)
        context = form.cleaned_data
    try:
        state = found.state_send(trigger, by=request.user, context=context)
    except NotAllowed as refused:
        messages.error(request, refused.user_message)
    else:
        messages.success(request, f"Done: the order is {state.label}.")
    return redirect("order", pk=pk)


def _page(
    request: HttpRequest, found: TradeOrder, form: Any = None, status: int = 200
) -> HttpResponse:
    refusals = {each.trigger: each.user_message for each in found.state_events(request.user)}
    other = NOT_NOW  # events that its state does not take are not offered
    buttons = [(name, label, refusals.get(name, other)) for name, label in BUTTONS.items()]
    context = {
        "order": found,
        "buttons": buttons,
        "form": form or PaymentForm(),
        "bookings": found.bookings.order_by("-pk"),
    }
    return render(request, "testapp/order.html", context, status=status)
