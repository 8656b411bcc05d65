from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404

from django_fsmworker.exceptions import StaleState, UndeclaredTransition
from tests.projects.orders.models import Order


def place(request: HttpRequest) -> JsonResponse:
    return shown(Order.objects.create())


def show(request: HttpRequest, pk: int) -> JsonResponse:
    return shown(get_object_or_404(Order, pk=pk))


def approve(request: HttpRequest, pk: int) -> JsonResponse:
    return moved(get_object_or_404(Order, pk=pk), "approved")


def cancel(request: HttpRequest, pk: int) -> JsonResponse:
    order = get_object_or_404(Order, pk=pk)
    return moved(order, "cancelled" if order.state == "placed" else "cancelling")


def moved(order: Order, state: str) -> JsonResponse:
    """Move the order as its graph allows; a conflict if it does not, or somebody was faster."""
    try:
        order.state_transition(state, force=False)
    except (StaleState, UndeclaredTransition) as error:
        return JsonResponse({"error": str(error)}, status=409)
    return shown(order)


def shown(order: Order) -> JsonResponse:
    return JsonResponse(
        {
            "id": order.pk,
            "state": order.state,
            "payment": order.payment,
            "refunded": order.refunded,
        }
    )
