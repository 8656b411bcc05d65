"""The page of orders: who may do what, and what is said to who may not."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from testapp.models import TradeOrder

pytestmark = [pytest.mark.once, pytest.mark.django_db]

NOT_ALLOWED = "You are not allowed to do this."
NOT_NOW = "This cannot be done in the present state."
NOT_YET = "What this needs is not fulfilled yet."


@pytest.fixture(autouse=True)
def urls(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]


def logged_in(name: str, *permissions: str) -> Client:
    user = User.objects.create(username=name)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def customer() -> Client:
    return logged_in("ann")


@pytest.fixture
def approver() -> Client:
    return logged_in("bob", "approve_tradeorder")


def placed(state: str = "open", **columns: Any) -> TradeOrder:
    values = {"customer": "ann", "quantity": 10, "price": 5, **columns}
    return TradeOrder.objects.create(state=state, **values)


def press(client: Client, order: TradeOrder, trigger: str, **values: Any) -> str:
    """Press a button; the page that follows."""
    answer = client.post(f"/orders/{order.pk}/{trigger}/", values, follow=True)
    order.refresh_from_db()
    return answer.text


class TestWhatIsAllowed:
    def test_who_has_the_permission_approves(self, approver: Client) -> None:
        order = placed("held")

        page = press(approver, order, "approve")

        assert order.state == "open"
        assert "Done: the order is open." in page

    def test_a_customer_cancels_and_pays_their_own(self, customer: Client) -> None:
        order = placed()

        page = press(customer, order, "pay", amount=20)
        assert (order.state, order.paid) == ("open", 20)
        assert "payment of 20 by ann" in page

        press(customer, order, "cancel")
        assert order.state == "cancelled"


class TestRefusals:
    def test_without_the_permission(self, customer: Client) -> None:
        order = placed("held")

        assert NOT_ALLOWED in press(customer, order, "approve")
        assert order.state == "held"

    def test_the_order_of_somebody_else(self) -> None:
        order, stranger = placed(), logged_in("eve")

        assert NOT_ALLOWED in press(stranger, order, "cancel")
        assert NOT_ALLOWED in press(stranger, order, "pay", amount=5)
        assert (order.state, order.paid) == ("open", 0)

    def test_in_another_state(self, customer: Client) -> None:
        order = placed("filled", filled=10)

        assert NOT_NOW in press(customer, order, "cancel")

    def test_more_than_is_owed(self, customer: Client) -> None:
        order = placed(paid=50)

        assert NOT_YET in press(customer, order, "pay", amount=1)
        assert order.paid == 50

    def test_of_what_is_not_declared(self, customer: Client) -> None:
        assert "There is no such action." in press(customer, placed(), "explode")

    @pytest.mark.parametrize("trigger", ["fill", "expire"])
    def test_what_programs_say_cannot_be_said_here(self, approver: Client, trigger: str) -> None:
        order = placed()

        assert NOT_ALLOWED in press(approver, order, trigger, quantity=10)
        assert (order.state, order.filled) == ("open", 0)

    def test_the_form_is_asked_first(self, customer: Client) -> None:
        order = placed()

        answer = customer.post(f"/orders/{order.pk}/pay/", {"amount": "-1"})

        assert answer.status_code == 422
        assert "greater than or equal to 1" in answer.text


class TestPages:
    def test_the_list_leads_to_an_order_with_its_refusals(self, customer: Client) -> None:
        order = placed("filled", customer="<ann>", filled=10, paid=50)

        listed = customer.get("/orders/").text
        page = customer.get(f"/orders/{order.pk}/").text

        assert f'<a href="/orders/{order.pk}/">order {order.pk} of &lt;ann&gt;</a>' in listed
        assert f'title="{NOT_NOW}">Cancel' in page
        assert f'title="{NOT_ALLOWED}">Pay' in page

    def test_nobody_in_particular_is_sent_to_the_login(self) -> None:
        order = placed()

        answer = Client().post(f"/orders/{order.pk}/cancel/")

        assert answer.headers["Location"].startswith("/accounts/login/?next=")
        assert Client().get("/accounts/login/").status_code == 200
        order.refresh_from_db()
        assert order.state == "open"

    def test_nothing_is_sent_by_a_link(self, customer: Client) -> None:
        order = placed()

        assert customer.get(f"/orders/{order.pk}/cancel/").status_code == 405
