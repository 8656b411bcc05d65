"""Shortcuts of single keys, which nothing needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from django_fsmworker.pauses import pause
from testapp.models import Webhook
from tests import programs
from tests.browser.site import DASHBOARD, barriers

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

LIST = "/admin/django_fsmworker/worker/?o=-6"


@pytest.fixture
def page(operator, visits) -> Any:
    pause(Webhook, reason="snow")
    page = visits.by(operator)
    page.goto(DASHBOARD)
    return page


def focused(page: Any) -> str:
    """The first words of what has the focus."""
    text = page.evaluate("document.activeElement.innerText")
    return " ".join(str(text).split()[:1])


def is_open(page: Any) -> bool:
    return bool(page.locator("dialog#fsmworker-shortcuts").is_visible())


def test_keys_lead_from_row_to_row_and_from_section_to_section(page):
    page.keyboard.press("j")
    assert focused(page) == "Pauses"
    page.keyboard.press("j")
    assert focused(page) == "testapp.Webhook"
    page.keyboard.press("n")
    assert focused(page) == "Workers"
    page.keyboard.press("k")
    assert focused(page) == "testapp.Webhook"
    page.keyboard.press("p")
    assert focused(page) == "Pauses"
    page.keyboard.press("k")
    assert focused(page) == "Pauses"


def test_the_tab_key_goes_on_from_the_row(page):
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Tab")

    assert focused(page) == "Lift"


def test_a_key_loads_the_page_again(page):
    Webhook.objects.all().delete()
    pause(reason="a storm")

    with page.expect_navigation():
        page.keyboard.press("r")

    assert "a storm" in page.inner_text("#content")


def test_a_key_leads_to_the_search_of_a_list(page):
    page.goto(LIST)

    page.keyboard.press("/")
    page.keyboard.type("j/?r")

    assert page.input_value("#searchbar") == "j/?r"
    assert page.url.endswith(LIST)


@pytest.mark.parametrize("modifier", ["Control", "Alt", "Meta"])
def test_with_another_key_held_they_do_nothing(page, modifier):
    page.keyboard.press(f"{modifier}+j")

    assert page.evaluate("document.activeElement === document.body")


def test_the_list_of_them_opens_and_closes(page):
    page.keyboard.press("?")
    assert is_open(page)
    page.keyboard.press("n")
    assert focused(page) != "Pauses"
    page.keyboard.press("Escape")
    assert not is_open(page)

    page.get_by_role("button", name="Keyboard shortcuts").click()
    assert is_open(page)
    page.get_by_role("button", name="Close").click()
    assert not is_open(page)


def test_they_can_be_turned_off(page):
    page.keyboard.press("?")
    page.get_by_label("Use them in this browser").uncheck()
    page.keyboard.press("Escape")
    page.goto(DASHBOARD)
    page.keyboard.press("j")
    page.keyboard.press("?")
    assert page.evaluate("document.activeElement === document.body")
    assert not is_open(page)

    page.get_by_role("button", name="Keyboard shortcuts").click()
    page.get_by_label("Use them in this browser").check()
    page.keyboard.press("Escape")
    page.keyboard.press("n")
    assert focused(page) == "Pauses"


def test_without_scripts_nothing_is_said_of_them(operator, visits):
    page = visits.by(operator, java_script_enabled=False)
    page.goto(DASHBOARD)

    assert not page.get_by_text("Keyboard shortcuts").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_anybody_from_using_their_list(operator, visits, scheme) -> None:
    page = visits.by(operator, bypass_csp=True, color_scheme=scheme)
    page.goto(DASHBOARD)
    page.keyboard.press("?")

    assert barriers(page, Path(programs.axe())) == []
