from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db.models import QuerySet
from django.test import Client

from django_fsmworker import clock
from django_fsmworker.models import FailureRecord
from tests.app.models import BasicModel


@pytest.fixture(autouse=True)
def admin_urls(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.admin.sites"
    settings.ALLOWED_HOSTS = ["testserver"]


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
            # Past its own queryset: a row of another build may be in any state.
            rows: QuerySet[BasicModel] = QuerySet(BasicModel, using=using)
            rows.filter(pk=row.pk).update(**columns)
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
