"""Managers that take Django's plugin to be understood: mypy reads this file, nothing runs it."""

from __future__ import annotations

from typing import Self, assert_type

from django.db import models

from django_fsmworker.models import StateField, StatorModel, StatorQuerySet
from tests.typing.usage import Order, OrderStates


class ReceiptQuerySet(StatorQuerySet["Receipt"]):
    def printed(self) -> Self:
        return self.exclude(printer="")


PlainReceiptManager = models.Manager.from_queryset(ReceiptQuerySet)


class ReceiptManager(PlainReceiptManager["Receipt"]):
    def first_printed(self) -> Receipt | None:
        return self.printed().first()


class Receipt(StatorModel):
    printer = models.CharField(max_length=20)
    state = StateField(OrderStates)

    objects = ReceiptManager()


def of_a_class_of_its_own() -> None:
    assert_type(Receipt.objects.printed().due().first(), Receipt | None)
    assert_type(Receipt.objects.in_state("paid").printed().get(), Receipt)
    assert_type(Receipt.objects.due().get(), Receipt)


def of_two_methods() -> None:
    assert_type(Order.objects.using("other").due().get(), Order)
    assert_type(Order.objects.db_manager("other").large().due().get(), Order)
