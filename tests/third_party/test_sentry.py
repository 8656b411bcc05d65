"""Sentry: a failure for good is an error with its exception; a try that is repeated is none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from django_fsmworker import clock
from django_fsmworker.runner import AttemptInfo
from django_fsmworker.signals import check_failed
from tests.runner.embedded import one_pass
from tests.runner.rows import fresh
from tests.third_party.app.models import Ticket

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def transaction(attempt: AttemptInfo) -> Iterator[None]:
    """A middleware for ``ATTEMPT_MIDDLEWARE``."""
    name = f"{attempt.model._meta.label} {attempt.state}"
    with sentry_sdk.isolation_scope() as scope:
        scope.set_tag("worker", attempt.worker)
        with sentry_sdk.start_transaction(op="queue.process", name=name):
            yield


class Kept(Transport):
    """Keeps what would be sent."""

    def __init__(self, options: dict[str, Any] | None = None) -> None:
        super().__init__(options)
        self.events: list[Any] = []
        self.transactions: list[Any] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(event)
        if (made := envelope.get_transaction_event()) is not None:
            self.transactions.append(made)


@pytest.fixture
def sent() -> Iterator[list[Any]]:
    transport = Kept()
    sentry_sdk.init("https://key@sentry.invalid/1", transport=transport)
    yield transport.events
    sentry_sdk.init()


@pytest.fixture
def told() -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []

    def receiver(sender: Any, **kwargs: Any) -> None:
        found.append(kwargs)

    check_failed.connect(receiver, sender=Ticket)
    yield found
    check_failed.disconnect(receiver, sender=Ticket)


def bad_ticket() -> Ticket:
    ticket = Ticket.objects.create(subject="bad")
    Ticket.objects.filter(pk=ticket.pk).update(state_next=clock.now())
    return ticket


def test_only_the_last_failure_is_sent(sent: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    ticket = bad_ticket()

    one_pass(Ticket)
    assert (fresh(ticket).state, sent) == ("opened", [])
    assert [each.levelno for each in of_ticket(caplog)] == [logging.WARNING]

    one_pass(Ticket)
    assert fresh(ticket).state == "broken"
    (event,) = sent
    assert event["level"] == "error"
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("RuntimeError", "nobody understands it")
    assert exception["stacktrace"]["frames"][-1]["function"] == "check_opened"
    assert event["extra"]["pk"] == ticket.pk
    assert event["extra"]["state"] == "opened"
    assert of_ticket(caplog)[-1].getMessage() == (
        f"app.Ticket {ticket.pk} failed in the state opened and is not tried again: "
        f"RuntimeError: nobody understands it"
    )


def test_the_signal_carries_the_exception(told: list[dict[str, Any]]) -> None:
    ticket = bad_ticket()

    one_pass(Ticket)

    (failure,) = told
    assert failure["pk"] == ticket.pk
    assert type(failure["exception"]) is RuntimeError
    assert failure["exception"].__traceback__ is not None
    assert failure["error"] == "RuntimeError: nobody understands it"


def test_an_attempt_is_a_transaction() -> None:
    transport = Kept()
    sentry_sdk.init("https://key@sentry.invalid/1", transport=transport, traces_sample_rate=1.0)
    bad_ticket()

    worker = one_pass(Ticket, attempt_middleware=[f"{__name__}.transaction"]).worker

    (made,) = transport.transactions
    assert (made["transaction"], made["tags"]["worker"]) == ("app.Ticket opened", worker)
    sentry_sdk.init()


def of_ticket(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [each for each in caplog.records if getattr(each, "action", "") == "failed"]
