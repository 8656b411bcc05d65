"""A webhook service from the documentation alone: delivered, tried again, given up."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from tests.projects.partner import Answer, Call, Partner
from tests.projects.project import Project
from tests.waiting import eventually

# Eight processes; that a project works on either database is for test_orders.py.
pytestmark = [pytest.mark.once, pytest.mark.sqlite, pytest.mark.postgresql]

# More than there are slots, so that the healthy ones have to wait.
HUNG = 24
HEALTHY = 20
# Seconds that a hanging endpoint takes, and that the service waits for one: a busy machine answers
# one of four tries in that time; and where none hangs, every one.
HANGS, IMPATIENT, PATIENT = 2.5, 0.6, 8.0


@pytest.fixture(scope="module")
def service(start_project: Callable[..., Project]) -> Project:
    return start_project("webhooks")


@pytest.fixture(scope="module")
def endpoints(start_partner: Callable[..., Partner]) -> Partner:
    failed: Counter[str] = Counter()

    def answer(call: Call) -> Answer:
        if call.path == "/hanging":
            time.sleep(HANGS)
        if call.path == "/unknown":
            return 404, {}
        if call.path == "/shaky":
            failed[call.headers["Idempotency-Key"]] += 1
            return 503 if failed[call.headers["Idempotency-Key"]] <= 2 else 200, {}
        return 500 if call.path == "/broken" else 200, {}

    return start_partner(answer)


def send(service: Project, url: str, number: int = 1) -> int:
    """Have so many payloads delivered to a new endpoint; returns its id."""
    endpoint: int = service.post("/endpoints", url=url)["id"]
    payloads = [{"number": each} for each in range(number)]
    assert service.post("/events", endpoint=endpoint, payloads=payloads) == {"number": number}
    return endpoint


def await_states(service: Project, endpoint: int, **states: int) -> None:
    path = f"/endpoints/{endpoint}/states"
    eventually(lambda: service.get(path) == states, 60, every=0.2)


@contextmanager
def running(service: Project, *options: str, patience: float) -> Iterator[None]:
    """A runner of the service, which ends with the block."""
    runner = service.start_runner(*options, WEBHOOK_TIMEOUT=str(patience))
    try:
        yield
    finally:
        runner.send(signal.SIGTERM)
        assert runner.wait() == 0


@pytest.fixture(scope="class")
def patient_runner(service: Project) -> Iterator[None]:
    with running(service, patience=PATIENT):
        yield


@pytest.mark.usefixtures("patient_runner")
class TestDeliveries:
    def test_a_delivery_that_fails_is_tried_again_by_its_backoff(
        self, service: Project, endpoints: Partner
    ) -> None:
        endpoint = send(service, f"{endpoints.address}/shaky")

        await_states(service, endpoint, delivered=1)
        calls = endpoints.calls("/shaky")
        waits = [later.began - call.began for call, later in pairwise(calls)]
        assert len(calls) == 3
        assert waits[0] >= 0.2
        assert waits[1] >= 0.4
        assert len({call.headers["Idempotency-Key"] for call in calls}) == 1

    def test_a_delivery_that_keeps_failing_is_given_up_and_says_why(
        self, service: Project, endpoints: Partner
    ) -> None:
        endpoint = send(service, f"{endpoints.address}/broken")

        await_states(service, endpoint, gone=1)
        (reason,) = service.get(f"/endpoints/{endpoint}/reasons").values()
        assert reason == [4, "urllib.error.HTTPError", "HTTP Error 500: Internal Server Error"]
        assert len(endpoints.calls("/broken")) == 4

    def test_a_delivery_that_is_refused_is_not_tried_again(
        self, service: Project, endpoints: Partner
    ) -> None:
        endpoint = send(service, f"{endpoints.address}/unknown")

        await_states(service, endpoint, refused=1)
        assert service.get(f"/endpoints/{endpoint}/reasons") == {}
        assert len(endpoints.calls("/unknown")) == 1


def test_an_endpoint_that_hangs_loses_nobody_a_delivery(
    service: Project, endpoints: Partner
) -> None:
    """Nothing is declared that would share the threads fairly: the healthy wait their turn."""
    hanging = send(service, f"{endpoints.address}/hanging", HUNG)
    healthy = send(service, f"{endpoints.address}/healthy", HEALTHY)

    with running(service, "--processes", "2", "--concurrency", "10", patience=IMPATIENT):
        await_states(service, healthy, delivered=HEALTHY)
        await_states(service, hanging, gone=HUNG)
    # Where one took longer than the service waits, as on a busy machine, it is delivered again.
    assert {call.body["number"] for call in endpoints.calls("/healthy")} == {*range(HEALTHY)}

    def tries() -> Counter[str]:
        return Counter(call.headers["Idempotency-Key"] for call in endpoints.calls("/hanging"))

    # Who asked did not wait, and the endpoint may hear of it a moment later.
    eventually(lambda: sorted(tries().values()) == [4] * HUNG)
