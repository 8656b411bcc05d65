"""The site under test in a process of its own, and visits to it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page

from tests.runner.processes import Process
from tests.servers import free_port
from tests.waiting import eventually

DASHBOARD = "/admin/django_fsmworker/worker/stator/"
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 375, "height": 800}
SERIOUS = ("serious", "critical")
LEFT_OUT = [
    # A few rows of a list look like all of them, and it takes less time.
    "#result_list tbody tr:nth-child(n + 12)",
    # Django's own, whose label is a picture with a text; axe does not see it beside a help text.
    "#searchbar",
    # Django's own: before 6.0 its links are told from the text around them by their colour alone.
    ".breadcrumbs",
    "#changelist-search .small",
]


class Site:
    """Django's own server with its admin; it outlasts a test, and the rows of one."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        address = f"127.0.0.1:{self.port}"
        own = {"DJANGO_SETTINGS_MODULE": "tests.browser.settings"}
        self._process = Process(
            ["runserver", "--noreload", "--insecure", address], environment | own
        )
        eventually(self._answers, 60)

    def end(self) -> None:
        self._process.end()

    def _answers(self) -> bool:
        assert not self._process.ended, self._process.stderr
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Visits:
    """Pages of the site as users see them. Nothing that a browser complains about is forgiven."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self._browser, self._site = browser, site
        self._contexts: list[BrowserContext] = []
        self.complaints: list[str] = []

    def by(self, user: User | None, **options: Any) -> Page:
        """A new page of this user, who is logged in; ``options`` are those of the context."""
        context = self._browser.new_context(
            **{"base_url": self._site.url, "viewport": WIDE, **options}
        )
        self._contexts.append(context)
        context.set_default_timeout(60_000)
        if user is not None:
            client = Client()
            client.force_login(user)
            key = client.cookies["sessionid"].value
            context.add_cookies([{"name": "sessionid", "value": key, "url": self._site.url}])
        page = context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _heard(self, message: Any) -> None:
        # The browser asks for that picture by itself, and Django has none.
        if message.type in ("error", "warning") and "/favicon.ico" not in str(message.location):
            self.complaints.append(f"{message.type}: {message.text} ({message.location})")

    def end(self) -> None:
        for context in self._contexts:
            context.close()


def visitor(*permissions: str) -> User:
    """A user of the admin who may do just that."""
    user = User.objects.create_user("visitor", is_staff=True)
    for each in permissions:
        app, codename = each.split(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=codename)
        )
    return user


def reloaded(page: Page, shows: Callable[[], bool], seconds: float = 60.0) -> None:
    """Load the page again and again, until it shows what is waited for."""

    def look() -> bool:
        page.wait_for_load_state()
        page.goto(page.url)
        return shows()

    eventually(look, seconds, every=0.2)


def badge(page: Page) -> str:
    """The state that a row's page shows on top."""
    return str(page.locator("#fsmworker-row-title .fsmworker-badge").inner_text())


def section(page: Page, name: str) -> Any:
    """A part of the dashboard."""
    return page.locator(f"section[aria-labelledby=fsmworker-{name}]")


def is_too_wide(page: Page) -> bool:
    """Whether the page as a whole has to be scrolled to the side."""
    return bool(page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


def barriers(page: Page, script: Path, **options: Any) -> list[str]:
    """What axe finds serious about the page, with its options; the context bypasses the policy."""
    page.wait_for_load_state()
    page.add_script_tag(path=script)
    # What is well is not looked at again for its report, which takes longer than to find it.
    options["resultTypes"] = ["violations"]
    found = page.evaluate(
        "([left_out, options]) => axe.run({exclude: left_out}, options)", [LEFT_OUT, options]
    )
    return [
        f"{page.url}: {each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]


@contextmanager
def ended(thing: Any) -> Iterator[Any]:
    """It, until the block is left."""
    try:
        yield thing
    finally:
        thing.end()
