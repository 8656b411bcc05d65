"""``assert_refused()``: what it asserts, and what it says if that is wrong."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser

from django_fsmworker.testing import assert_refused
from tests.app.models import Purchase

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("state", "trigger", "reason"),
    [
        ("open", "explode", "unknown_event"),
        ("open", "ship", "source_state"),
        ("approved", "ship", "condition"),
        ("held", "cancel", "permission"),
    ],
)
def test_what_was_raised_is_returned(state, trigger, reason):
    row = Purchase.objects.create(state=state)

    assert assert_refused(row, trigger, reason, by=AnonymousUser()).reason == reason


def test_it_does_not_wait():
    Purchase.objects.create()
    (row,) = Purchase.state_get_ready(1, 30)

    assert_refused(row, "hold", "running")


def test_the_context_is_sent():
    row = Purchase.objects.create(state="held", amount=5)

    assert_refused(row, "pay", "condition", amount=4)


def test_a_row_that_takes_the_event():
    row = Purchase.objects.create()

    with pytest.raises(AssertionError) as caught:
        assert_refused(row, "hold", "condition")

    assert str(caught.value) == (
        f"tests.Purchase {row.pk} took hold and is held now; expected was the refusal 'condition'."
    )


def test_another_reason():
    row = Purchase.objects.create()

    with pytest.raises(AssertionError) as caught:
        assert_refused(row, "ship", "condition")

    assert str(caught.value).startswith(
        "ship was refused for the reason 'source_state', not 'condition': tests.Purchase "
    )
