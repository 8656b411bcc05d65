from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.test.utils import override_settings

from django_fsmworker import clock
from django_fsmworker.models import FailureRecord
from tests.app.models import BasicModel
from tests.database.rows import put


@pytest.fixture(scope="module", autouse=True)
def admin_urls() -> Iterator[None]:
    """
    Once for a module: Django forgets the addresses of all sites when this setting changes, and to
    collect them again takes longer than most of these tests.
    """
    with override_settings(ROOT_URLCONF="tests.admin.sites", ALLOWED_HOSTS=["testserver"]):
        yield


@pytest.fixture
def visitor() -> Callable[..., Client]:
    """``visitor("testapp.view_order", …)``: a client who may do just that."""

    def make(*permissions: str) -> Client:
        user = User.objects.create_user("visitor", is_staff=True)
        for each in permissions:
            app, codename = each.split(".")
            user.user_permissions.add(
                Permission.objects.get(content_type__app_label=app, codename=codename)
            )
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def make_row() -> Callable[..., BasicModel]:
    """``make_row(state="done", state_next=None)``: a row with just those columns."""

    def make(using: str = "default", **columns: Any) -> BasicModel:
        row = BasicModel(state_next=clock.now())
        row.save(using=using)
        if columns:
            put(row, using, **columns)
        return BasicModel.objects.using(using).get(pk=row.pk)

    return make


@pytest.fixture
def make_failure() -> Callable[..., FailureRecord]:
    """``make_failure(row, message="…")``: the failure record of a row."""

    def make(of: Any = None, using: str = "default", **columns: Any) -> FailureRecord:
        now = clock.now()
        if of is not None:
            columns = {"model": of._meta.label, "row": str(of.pk), **columns}
        return FailureRecord.objects.using(using).create(
            **{
                "model": "tests.BasicModel",
                "row": "1",
                "state": "new",
                "error": "builtins.ValueError",
                "message": "no such thing",
                "traceback": "Traceback (most recent call last):\n  secret line",
                "first_seen": now - timedelta(hours=1),
                "last_seen": now,
                "worker": "host:4711",
                **columns,
            }
        )

    return make
