from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Browser, sync_playwright

from tests import programs
from tests.browser.site import Site, Visits, ended
from tests.runner.processes import Process


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. While it is there, an event loop is: so for a module, and not for all tests."""
    program = programs.chromium()
    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        # Playwright's loop runs in this thread, in which the tests ask the database.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(browser: Browser, database_environment: dict[str, str]) -> Iterator[Site]:
    """The site, with its address in ``url``."""
    with ended(Site(database_environment)) as site:
        yield site


@pytest.fixture
def visits(browser: Browser, site: Site, transactional_db: None) -> Iterator[Visits]:
    """``visits.by(user)``: a page of the site. The browser must not have complained in the end."""
    with ended(Visits(browser, site)) as visits:
        yield visits
    assert visits.complaints == []


@pytest.fixture
def operator(transactional_db: None) -> User:
    """A user who may do everything."""
    return User.objects.create_superuser("operator", password="night shift")


@pytest.fixture
def start_runner(database_env: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """``start_runner("testapp.Order")``: a runner of these models, in a process of its own."""
    started: list[Process] = []

    def start(*models: str) -> Process:
        # It looks for orders with each sign of life.
        environment = {**database_env, "FSMWORKER_HEARTBEAT_INTERVAL": "0.5"}
        process = Process(["runstator", *models, "--poll-interval", "0.5"], environment)
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


@pytest.fixture
def screenshots(request: pytest.FixtureRequest) -> Path | None:
    """The folder for pictures; None unless somebody wants them."""
    folder: Path | None = request.config.getoption("screenshots")
    return folder
