"""A webhook service from the documentation alone: delivered, tried again, given up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from tests.projects.partner import Answer, Call, Partner
from tests.projects.project import Project
from tests.waiting import eventually

pytestmark = [pytest.mark.sqlite, pytest.mark.postgresql]

HUNG = 400
HEALTHY = 40
# Seconds that a hanging endpoint takes, and that the service waits for one.
HANGS, PATIENCE = 1.0, 0.2


@pytest.fixture
def service(start_project: Callable[..., Project]) -> Iterator[Project]:
    yield start_project("webhooks", WEBHOOK_TIMEOUT=str(PATIENCE))


@pytest.fixture
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


def in_states(service: Project, endpoint: int, **states: int) -> Callable[[], bool]:
    return lambda: service.get(f"/endpoints/{endpoint}/states") == states


def test_a_delivery_that_fails_is_tried_again_by_its_backoff(
    service: Project, endpoints: Partner
) -> None:
    service.start_runner()

    endpoint = send(service, f"{endpoints.address}/shaky")

    eventually(in_states(service, endpoint, delivered=1), 30)
    calls = endpoints.calls()
    waits = [later.began - call.began for call, later in pairwise(calls)]
    assert len(calls) == 3
    assert waits[0] >= 0.2
    assert waits[1] >= 0.4
    assert len({call.headers["Idempotency-Key"] for call in calls}) == 1


def test_a_delivery_that_keeps_failing_is_given_up_and_says_why(
    service: Project, endpoints: Partner
) -> None:
    service.start_runner()

    endpoint = send(service, f"{endpoints.address}/broken")

    eventually(in_states(service, endpoint, gone=1), 30)
    (reason,) = service.get(f"/endpoints/{endpoint}/reasons").values()
    assert reason == [4, "urllib.error.HTTPError", "HTTP Error 500: Internal Server Error"]
    assert len(endpoints.calls()) == 4


def test_a_delivery_that_is_refused_is_not_tried_again(
    service: Project, endpoints: Partner
) -> None:
    service.start_runner()

    endpoint = send(service, f"{endpoints.address}/unknown")

    eventually(in_states(service, endpoint, refused=1), 30)
    assert service.get(f"/endpoints/{endpoint}/reasons") == {}
    assert len(endpoints.calls()) == 1


def test_an_endpoint_that_hangs_loses_nobody_a_delivery(
    service: Project, endpoints: Partner
) -> None:
    """Nothing is declared that would share the threads fairly: the healthy wait their turn."""
    hanging = send(service, f"{endpoints.address}/hanging", HUNG)
    healthy = send(service, f"{endpoints.address}/healthy", HEALTHY)

    service.start_runner("--processes", "2", "--concurrency", "20")

    eventually(in_states(service, healthy, delivered=HEALTHY), 60)
    eventually(in_states(service, hanging, gone=HUNG), 60)
    assert sorted(call.body["number"] for call in endpoints.calls("/healthy")) == [*range(HEALTHY)]
    tries = Counter(call.headers["Idempotency-Key"] for call in endpoints.calls("/hanging"))
    assert len(tries) == HUNG
    assert set(tries.values()) == {4}
