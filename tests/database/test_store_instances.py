"""Rows that a claim returns are the instances that Django's own loading makes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections, models
from django.db.models.signals import post_init
from django.test.utils import isolate_apps

from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.store.tables import build, is_plain
from testapp.models import File, Order
from tests.app.models import Chain, ChainStates, Errand, Noop, RelatedKey, TextKey
from tests.database.rows import claimed, fetch

pytestmark = pytest.mark.django_db


def defined(**attributes: Any) -> Any:
    with isolate_apps("testapp"):
        return type(
            "Special",
            (attributes.pop("base", StatorModel), *attributes.pop("mixins", ())),
            {"__module__": "testapp.models", "state": StateField(ChainStates), **attributes},
        )


class Shouting(models.query_utils.DeferredAttribute):
    def __set__(self, instance: Any, value: Any) -> None:
        instance.__dict__[self.field.attname] = value.upper()


class ShoutingField(models.CharField):  # type: ignore[type-arg]
    descriptor_class = Shouting


@pytest.mark.parametrize("model", [Chain, Errand, File, Noop, Order, RelatedKey, TextKey])
def test_the_models_of_the_test_project_are_plain(model):
    assert is_plain(model)


def test_a_claimed_row_is_what_the_database_has():
    row = claimed(Chain)
    loaded = fetch(row)

    assert row.__dict__.keys() == loaded.__dict__.keys()
    assert {**row.__dict__, "_state": None} == {**loaded.__dict__, "_state": None}
    assert (row._state.db, row._state.adding) == ("default", False)


def test_times_are_in_utc_as_django_loads_them():
    row = claimed(Noop)

    assert row.state_changed == fetch(row).state_changed
    assert row.state_changed.tzinfo is UTC
    assert row.state_lease.tzinfo is UTC


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_database_with_a_time_zone_keeps_it(monkeypatch):
    wrapper = connections["default"]
    wrapper.close()
    monkeypatch.setitem(wrapper.settings_dict, "TIME_ZONE", "Asia/Tokyo")
    _forget_time_zone(wrapper)
    try:
        row = claimed(Noop)

        assert row.state_changed.utcoffset() == timedelta(hours=9)
        assert row.state_changed == fetch(row).state_changed
    finally:
        wrapper.close()
        _forget_time_zone(wrapper)


def _forget_time_zone(wrapper: Any) -> None:
    """It is worked out once for each connection of a thread."""
    for name in ("timezone", "timezone_name"):
        wrapper.__dict__.pop(name, None)


def test_a_row_can_be_saved_after_a_claim():
    row = claimed(Order)

    row.tracking = "here"
    row.save()

    assert fetch(row).tracking == "here"
    assert fetch(row).state_claim == row.state_claim


class TestModelsThatTakePartInLoading:
    def loaded(self, model: Any) -> Any:
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        names = [field.attname for field in model._meta.concrete_fields]
        values = dict.fromkeys(names, None) | {"state": "first", "state_changed": moment}
        (row,) = build(model, "default", names, [[values[name] for name in names]])
        return row

    def test_a_from_db_of_its_own_is_called(self):
        class Base(StatorModel):
            class Meta:
                abstract = True

            @classmethod
            def from_db(cls, db, field_names, values, **more):
                row = super().from_db(db, field_names, values, **more)
                row.__dict__["came_from"] = db
                return row

        model = defined(base=Base)

        assert not is_plain(model)
        assert self.loaded(model).came_from == "default"

    def test_an_init_of_its_own_is_called(self):
        def __init__(self, *args, **kwargs):
            models.Model.__init__(self, *args, **kwargs)
            self.began = True

        model = defined(__init__=__init__)

        assert not is_plain(model)
        assert self.loaded(model).began

    def test_the_init_of_a_mixin_behind_django_s(self):
        class Mixin:
            def __init__(self) -> None:
                self.mixed = True

        model = defined(mixins=(Mixin,))

        assert not is_plain(model)
        assert self.loaded(model).mixed

    def test_a_setattr_of_its_own_is_called(self):
        seen = []

        def __setattr__(self, name, value):
            seen.append(name)
            object.__setattr__(self, name, value)

        model = defined(__setattr__=__setattr__)
        self.loaded(model)

        assert not is_plain(model)
        assert "state" in seen

    def test_a_field_s_own_descriptor(self):
        model = defined(shout=ShoutingField(max_length=9, default="x"))
        names = [field.attname for field in model._meta.concrete_fields]
        values = [{"shout": "quiet", "state": "first"}.get(name) for name in names]

        (row,) = build(model, "default", names, [values])

        assert row.shout == "QUIET"

    def test_a_receiver_of_post_init(self):
        model, seen = defined(), []

        def receiver(instance, **kwargs):
            seen.append(instance.state)

        post_init.connect(receiver, sender=model)
        try:
            self.loaded(model)
        finally:
            post_init.disconnect(receiver, sender=model)

        assert is_plain(model)
        assert seen == ["first"]
