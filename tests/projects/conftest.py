from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.projects.partner import Answer, Call, Partner
from tests.projects.project import Project, new_database


@pytest.fixture
def start_partner() -> Iterator[Callable[[Callable[[Call], Answer]], Partner]]:
    """``start_partner(answer)``: somebody else's server, closed when the test ends."""
    started: list[Partner] = []

    def start(answer: Callable[[Call], Answer]) -> Partner:
        started.append(Partner(answer))
        return started[-1]

    yield start
    for partner in started:
        partner.close()


@pytest.fixture
def start_project(vendor: str, tmp_path: Path) -> Iterator[Callable[..., Project]]:
    """``start_project("webhooks", NAME=value)``: migrated, with its web server running."""
    environ = dict(os.environ)
    with new_database(vendor, tmp_path, environ) as url:
        ended: list[Project] = []

        def start(name: str, **environment: str) -> Project:
            made = Project(
                f"tests.projects.{name}.settings", {**environ, "DATABASE_URL": url, **environment}
            )
            ended.append(made)
            made.manage("migrate", "--verbosity", "0")
            made.start_web()
            return made

        yield start
        for made in ended:
            made.end()
