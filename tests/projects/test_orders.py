"""An order life from the documentation alone: approved, captured, cancelled, refunded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.projects.partner import Answer, Call, Partner
from tests.projects.project import Project
from tests.waiting import eventually

pytestmark = [pytest.mark.sqlite, pytest.mark.postgresql]


class Provider:
    """A payment provider; the capture of an order in ``slow`` lasts until ``release`` is set."""

    def __init__(self, start_partner: Callable[..., Partner]) -> None:
        self.slow: set[int] = set()
        self.release = threading.Event()
        self._captured: set[int] = set()
        self.partner = start_partner(self._answer)

    def calls(self, order: int) -> list[Call]:
        """What it was asked about an order."""
        return [call for call in self.partner.calls() if call.body["order"] == order]

    def asked(self, order: int) -> list[str]:
        return [call.path for call in self.calls(order)]

    def _answer(self, call: Call) -> Answer:
        order = call.body["order"]
        if call.path == "/capture":
            if order in self.slow:
                self.release.wait(60)
            self._captured.add(order)
            return 200, {"payment": f"pay-{order}"}
        return 200, {"refunded": order in self._captured}


@pytest.fixture(scope="module")
def provider(start_partner: Callable[..., Partner]) -> Iterator[Provider]:
    provider = Provider(start_partner)
    yield provider
    provider.release.set()


@pytest.fixture(scope="module")
def shop(start_project: Callable[..., Project], provider: Provider) -> Project:
    shop = start_project("orders", PAYMENT_PROVIDER=provider.partner.address)
    shop.start_runner("--deadline", "90")  # a capture may take as long as the test wants it to
    return shop


def place(shop: Project) -> int:
    order: int = shop.post("/orders")["id"]
    return order


def until(shop: Project, order: int, state: str) -> dict[str, Any]:
    """The order, once it is in this state."""

    def in_state() -> dict[str, Any] | None:
        shown: dict[str, Any] = shop.get(f"/orders/{order}")
        assert shown["state"] == state, shown
        return shown

    found = eventually(in_state, 30)
    assert found is not None
    return found


def test_an_approved_order_is_captured_and_refunded_when_it_is_cancelled(
    shop: Project, provider: Provider
) -> None:
    order = place(shop)

    shop.post(f"/orders/{order}/approve")
    captured = until(shop, order, "captured")
    shop.post(f"/orders/{order}/cancel")
    cancelled = until(shop, order, "cancelled")

    assert captured["payment"] == f"pay-{order}"
    assert cancelled["refunded"] is True
    assert provider.asked(order) == ["/capture", "/refund"]


def test_what_the_graph_does_not_allow_is_a_conflict(shop: Project, provider: Provider) -> None:
    order = place(shop)

    assert shop.post(f"/orders/{order}/cancel")["state"] == "cancelled"

    refused = shop.post(f"/orders/{order}/approve", code=409)
    assert refused["error"].startswith(
        f"orders.Order {order} cannot go from cancelled to approved; declared from cancelled: none"
    )
    assert shop.get(f"/orders/{order}")["state"] == "cancelled"
    assert provider.asked(order) == []


def test_a_refund_does_not_begin_while_the_capture_is_under_way(
    shop: Project, provider: Provider
) -> None:
    order, other = place(shop), place(shop)
    provider.slow.add(order)

    shop.post(f"/orders/{order}/approve")
    eventually(lambda: provider.asked(order) == ["/capture"], 30)
    shop.post(f"/orders/{order}/cancel")
    # Another order goes all the way meanwhile: there are threads, and time, to refund the first.
    shop.post(f"/orders/{other}/approve")
    until(shop, other, "captured")
    shop.post(f"/orders/{other}/cancel")
    until(shop, other, "cancelled")

    assert provider.asked(order) == ["/capture"]
    provider.release.set()
    assert until(shop, order, "cancelled")["refunded"] is True
    capture, refund = provider.calls(order)
    assert refund.path == "/refund"
    assert capture.ended is not None
    assert capture.ended <= refund.began
