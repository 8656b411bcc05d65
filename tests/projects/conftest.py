from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.projects.partner import Answer, Call, Partner
from tests.projects.project import Project, new_database


# A project is three processes: the tests of a module share it, each with rows of its own.
@pytest.fixture(scope="module")
def start_partner() -> Iterator[Callable[[Callable[[Call], Answer]], Partner]]:
    """``start_partner(answer)``: somebody else's server, closed after the module."""
    started: list[Partner] = []

    def start(answer: Callable[[Call], Answer]) -> Partner:
        started.append(Partner(answer))
        return started[-1]

    yield start
    for partner in started:
        partner.close()


@pytest.fixture(scope="module")
def start_project(
    vendor: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Project]]:
    """``start_project("webhooks", NAME=value)``: migrated, with its web server running."""
    environ = dict(os.environ)
    with new_database(vendor, tmp_path_factory.mktemp("project"), environ) as url:
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
