"""What nobody types by accident: it breaks no page, and is shown as it is."""

from __future__ import annotations

from typing import Any

import pytest

from django_fsmworker.models import FailureRecord
from tests.workers_on_record import on_record

pytestmark = pytest.mark.django_db(databases=["default", "other"])

LIST = "/lives/tests/basicmodel/"
DASHBOARD = "/lives/django_fsmworker/worker/stator/"
NUL, MARKUP, LONG = "a\0b", "<script>alert(1)</script>\"'&", "x" * 10_000
# How it is shown depends on no database; what can be stored does.
SHOWN = pytest.param(MARKUP, marks=pytest.mark.once, id="markup")
HOSTILE = pytest.mark.parametrize(
    "text", [pytest.param(NUL, id="nul"), SHOWN, pytest.param(LONG, id="long")]
)

GROUP = {"model": "tests.BasicModel", "state": "new", "error": "builtins.ValueError"}
CHOSEN = {"action": "state_park_rows", "_selected_action": ["1"], "confirmed": "1"}
POSTED: dict[str, tuple[str, dict[str, Any]]] = {
    "park": (f"{LIST}{{row}}/state/park/", {"reason": ""}),
    "move": (f"{LIST}{{row}}/state/move/slow/", {"reason": ""}),
    "failures": (f"{DASHBOARD}failures/park/", {**GROUP, "confirmed": "1", "reason": "r"}),
    "order": (f"{DASHBOARD}suspend/", {"worker": "w", "reason": ""}),
    "pause": (f"{DASHBOARD}pauses/set/", {"what": "*", "reason": "", "key": "", "until": ""}),
    "lift": (f"{DASHBOARD}pauses/lift/", {"database": "default", "pause": "1"}),
    "action": (LIST, {**CHOSEN, "reason": "r", "subject": ""}),
}
# Django itself looks for the rows that are named here.
FIELDS = [
    (name, field)
    for name, (_address, data) in POSTED.items()
    for field in data
    if field != "_selected_action"
]
LISTS = (LIST, "/lives/django_fsmworker/failurerecord/")
PAGES = (*LISTS, DASHBOARD, f"{LIST}graph/", f"{DASHBOARD}pauses/set/")
# None of the last ones stands in another's way.
OF_PAGES = ("refresh", "what")
OF_LISTS = (("state",), ("due",), ("q",), ("o",), ("p",), ("model",), ("whole", *OF_PAGES))


def is_harmless(answer: Any) -> bool:
    return answer.status_code in (200, 403, 404, 405) and "<script>alert" not in answer.text


@HOSTILE
def test_what_is_posted(admin_client, make_row, make_failure, text):
    on_record("w")
    led_to = {DASHBOARD, LIST}
    for name, field in FIELDS:
        row = make_row()
        make_failure(row)
        address, data = POSTED[name]

        data = {**data, "_selected_action": [str(row.pk)], field: text}
        answer = admin_client.post(address.format(row=row.pk), data)

        if answer.status_code == 302:
            led_to.add(answer.url)
        else:
            assert is_harmless(answer), (name, field)
    # With all that was said meanwhile, and with what was stored.
    for page in (*led_to, f"{LIST}{row.pk}/change/"):
        assert is_harmless(admin_client.get(page, follow=True)), page


@HOSTILE
def test_what_is_asked_for(admin_client, make_row, text):
    make_row()
    for address in PAGES:
        for names in OF_LISTS if address in LISTS else (OF_PAGES,):
            if names == ("state",) and address != LIST:
                continue  # Django itself looks for what stands in a column
            answer = admin_client.get(address, dict.fromkeys(names, text), follow=True)
            assert is_harmless(answer), (address, names)


@pytest.mark.parametrize(
    "text",
    [
        "a%00b",
        pytest.param("%3Cscript%3Ealert(1)%3C%2Fscript%3E", marks=pytest.mark.once),
        LONG,
    ],
)
def test_what_addresses_name(admin_client, make_row, text):
    row = make_row()
    for verb in ("state/send/{}/", "state/move/{}/", "state/{}/", "change/"):
        for address in (f"{row.pk}/{verb.format(text)}", f"{text}/{verb.format('park')}"):
            assert is_harmless(admin_client.post(f"{LIST}{address}", follow=True)), address


@HOSTILE
def test_what_data_says(admin_client, make_row, make_failure, text):
    text = text.replace("\0", "")
    row = make_row(state_failures=1)
    make_failure(row, message=text, error=text[:200], parked_reason=text, parked_by=text[:200])
    on_record("w", host=text[:255], order_reason=text, stacks=text)

    for page in (
        DASHBOARD,
        f"{LIST}{row.pk}/change/",
        "/lives/django_fsmworker/failurerecord/",
        f"/lives/django_fsmworker/failurerecord/{FailureRecord.objects.get().pk}/change/",
        "/lives/django_fsmworker/worker/w/change/",
    ):
        answer = admin_client.get(page)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
