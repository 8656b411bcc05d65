"""The pages in light, in dark, on a phone, without JavaScript, and to those who do not see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from django_fsmworker import clock
from django_fsmworker.bulk.starting import start
from django_fsmworker.models import FailureRecord, StatorLog
from django_fsmworker.pauses import pause
from testapp.admin_demo.trouble import prepare
from testapp.models import Endpoint, Webhook
from tests import programs
from tests.browser.site import DASHBOARD, NARROW, WIDE, badge, barriers, is_too_wide, section
from tests.workers_on_record import on_record

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": WIDE},
    "dark": {"color_scheme": "dark", "viewport": WIDE},
    "narrow": {"color_scheme": "light", "viewport": NARROW},
}

# Of a dark page only its colours are others, of a narrow one all but its colours.
RULES: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"runOnly": ["color-contrast"]},
    "narrow": {"rules": {"color-contrast": {"enabled": False}}},
}

# What the documentation shows.
PICTURES = {
    *("dashboard-light", "dashboard-dark", "dashboard-narrow"),
    *("graph-light", "list-light", "row-light", "row-narrow"),
}


@pytest.fixture
def trouble(transactional_db, start_runner, eventually) -> Iterator[Webhook]:
    """A fleet in trouble; a row that fails there."""
    prepare()
    start_runner("testapp.Webhook", "testapp.Order")
    failing = Webhook.objects.filter(endpoint__name="tea.example", state_failures__gt=0)
    eventually(lambda: failing.count() == 60, 60)
    eventually(lambda: Webhook.objects.filter(state="sent").count() == 400, 60)
    errors = FailureRecord.objects.filter(resolved=None, count__gt=0).values("error").distinct()
    eventually(lambda: errors.count() == 3, 60)
    row = failing.first()
    assert row is not None
    yield row


def pages(row: Webhook) -> dict[str, str]:
    return {
        "dashboard": DASHBOARD,
        "list": "/admin/testapp/webhook/?due=failing",
        "row": f"/admin/testapp/webhook/{row.pk}/change/",
        "graph": "/admin/testapp/webhook/graph/",
        "failures": "/admin/django_fsmworker/failurerecord/",
        "pause": f"{DASHBOARD}pauses/set/",
    }


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_keeps_anybody_from_using_the_pages(
    operator, visits, trouble, screenshots: Path | None, look: str
) -> None:
    script = Path(programs.axe())
    found: list[str] = []
    page = visits.by(operator, bypass_csp=True, **LOOKS[look])
    for name, address in pages(trouble).items():
        page.goto(address)
        if screenshots is not None and f"{name}-{look}" in PICTURES:
            whole = name in ("dashboard", "graph") and look != "narrow"
            page.screenshot(path=screenshots / f"{name}-{look}.png", full_page=whole)
        found += barriers(page, script, **RULES[look])
        if is_too_wide(page):
            found.append(f"{name} has to be scrolled to the side")
    page.goto(DASHBOARD)
    section(page, "failures").get_by_role("button", name="Retry now").first.click()
    page.get_by_label("Reason").wait_for()
    found += barriers(page, script, **RULES[look])

    assert found == []


@pytest.mark.parametrize("look", ["light", "narrow"])
def test_words_of_any_length_make_no_page_wider(operator, visits, look: str) -> None:
    endless, now = "a" * 150, clock.now()
    row = Webhook.objects.create(endpoint=Endpoint.objects.create(name="tea.example"))
    Webhook.objects.filter(pk=row.pk).park(endless, by=endless)
    record = FailureRecord.objects.get()
    FailureRecord.objects.update(
        count=3, error=endless, message=endless, traceback=endless, first_seen=now, last_seen=now
    )
    pause(Webhook, by=endless, reason=endless)
    page = visits.by(operator, **LOOKS[look])

    for address in (
        DASHBOARD,
        f"/admin/testapp/webhook/{row.pk}/change/",
        f"/admin/django_fsmworker/failurerecord/{record.pk}/change/",
    ):
        page.goto(address)
        # Neither the page nor a part of it: buttons would be out of sight, or a message cut off.
        assert not is_too_wide(page)
        for each in page.locator(".fsmworker-scroll:has(> table), .form-row").all():
            assert each.evaluate("part => part.scrollWidth <= part.clientWidth")


def test_lists_of_records_show_what_counts_without_being_moved(operator, visits) -> None:
    now = clock.now()
    worker = on_record("testapp.order+testapp.webhook.93cfca4585c0975e@vm")
    FailureRecord.objects.create(
        model="testapp.Webhook", row="1", state="signed", error="a" * 150, first_seen=now,
        last_seen=now,
    )  # fmt: skip
    StatorLog.objects.create(model="testapp.Webhook", worker=worker.id, since=now, until=now)
    start("retry", Webhook.objects.all(), by=operator, reason="the shop is back")
    page = visits.by(operator)

    for records, part in (
        ("worker/?o=-3", ".field-in_flight"),
        ("failurerecord/", ".field-shown_last_seen time"),
        ("statorlog/", ".field-failed"),
        ("bulkaction/", ".field-shown_progress"),
    ):
        page.goto(f"/admin/django_fsmworker/{records}")
        box = page.locator(f"#result_list {part}").bounding_box()
        shown = page.locator(".results").bounding_box()
        assert box["x"] + box["width"] <= shown["x"] + shown["width"], records


def test_a_phone_shows_all_numbers_of_a_model(operator, visits) -> None:
    endpoint = Endpoint.objects.create(name="tea.example")
    row = Webhook.objects.create(endpoint=endpoint)
    Webhook.objects.filter(pk=row.pk).park("until the kettle is mended")
    page = visits.by(operator, **LOOKS["narrow"])
    page.goto(DASHBOARD)

    line = section(page, "models").locator("tr", has_text="queued")

    assert line.inner_text().split() == ["queued", "1", "1"]
    parked = line.locator("td[data-label=parked]")
    assert parked.bounding_box()["x"] + parked.bounding_box()["width"] <= NARROW["width"]
    assert not line.locator("td[data-label=due]").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_follow_the_colours_of_the_system(operator, visits, trouble, scheme) -> None:
    page = visits.by(operator, color_scheme=scheme)
    page.goto(pages(trouble)["row"])

    shade = page.evaluate("getComputedStyle(document.querySelector('.fsmworker-row')).color")
    lightness = sum(map(int, shade.removeprefix("rgb(").removesuffix(")").split(", "))) / 3

    assert (lightness > 128) == (scheme == "dark")


def test_all_is_there_without_javascript(operator, visits, trouble, eventually) -> None:
    page = visits.by(operator, java_script_enabled=False)
    page.goto(DASHBOARD)
    for name in ("models", "workers", "failures", "pauses"):
        assert section(page, name).count() == 1
    assert "The warehouse is being moved until noon." in section(page, "pauses").inner_text()

    page.goto(pages(trouble)["row"])
    page.fill("section.fsmworker-row input[name=reason]", "closed for good")
    page.get_by_role("button", name="Park", exact=True).click()

    assert badge(page) == "signed"
    assert "closed for good" in page.inner_text("#content")
    eventually(lambda: Webhook.objects.parked().filter(pk=trouble.pk).exists(), 60)


def test_the_page_can_load_itself_again(operator, visits) -> None:
    page = visits.by(operator)
    page.goto(DASHBOARD)
    page.get_by_role("link", name="5 s", exact=True).click()

    with page.expect_navigation():
        pass

    assert page.url.endswith("?refresh=5")
