"""django-tenants: a runner for each schema, with settings of its own; any other is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.projects.project import Project, new_database
from tests.waiting import eventually

pytestmark = pytest.mark.postgresql

SETTINGS = "tests.third_party.tenants.settings"
RUNNER_SETTINGS = "tests.third_party.tenants.runner_settings"

MAKE = """
from django_tenants.utils import schema_context
from tests.third_party.tenants.customers.models import Client
from tests.third_party.tenants.shop.models import Job
for name in ("one", "two"):
    Client(schema_name=name).save()
    with schema_context(name):
        Job.objects.create()
        Job.objects.create(fails=True)
        Job.objects.create().state_transition("held")
"""
SHOW = """
import json
from django_tenants.utils import schema_context
from django_fsmworker.models import FailureRecord
from tests.third_party.tenants.shop.models import Job
found = {}
for name in ("one", "two"):
    with schema_context(name):
        jobs = Job.objects.order_by("pk").values_list("state", "seen_from")
        found[name] = [list(map(list, jobs)), FailureRecord.objects.count()]
print(json.dumps(found))
"""
UNTOUCHED = [[["new", ""], ["new", ""], ["held", ""]], 0]


@pytest.fixture
def site(vendor: str, tmp_path: Path) -> Iterator[Project]:
    environ = dict(os.environ)
    with new_database(vendor, tmp_path, environ) as url:
        site = Project(SETTINGS, {**environ, "DATABASE_URL": url})
        site.manage("migrate_schemas", "--shared", "--verbosity", "0")
        site.manage("shell", "--verbosity", "0", "--command", MAKE)
        yield site
        site.end()


def shown(site: Project) -> Any:
    printed = site.manage("shell", "--verbosity", "0", "--command", SHOW).stdout
    return json.loads(printed.splitlines()[-1])


def test_no_check_is_in_the_way_of_the_project(site: Project) -> None:
    assert "no issues" in site.manage("check").stdout
    assert "no issues" in site.manage("tenant_command", "check", "--schema=one").stdout


@pytest.mark.parametrize(
    "command", [["runstator"], ["tenant_command", "runstator", "--schema=one"]]
)
def test_a_runner_that_would_not_see_the_schema_is_refused(
    site: Project, command: list[str]
) -> None:
    refused = site.manage(*command, code=1)

    assert (
        "CommandError: The connections to the database 'default' switch between the schemas of "
        "tenants, and a runner works in one. Start one for each schema, with settings whose "
        "ENGINE is Django's own and whose search_path names the schema."
    ) in refused.stderr
    assert shown(site) == {"one": UNTOUCHED, "two": UNTOUCHED}


def test_a_runner_with_settings_of_its_own_runs_one_schema(site: Project) -> None:
    site.start_runner(DJANGO_SETTINGS_MODULE=RUNNER_SETTINGS, SCHEMA="one")

    done = [[["done", "one"], ["new", "one"], ["held", ""]], 1]
    eventually(lambda: shown(site)["one"] == done, 60, every=0.2)

    assert shown(site)["two"] == UNTOUCHED
