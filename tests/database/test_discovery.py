"""Finding the models that have a life: once per table."""

from __future__ import annotations

import pytest
from django.db import models
from django.test.utils import isolate_apps

from django_fsmworker.models import StateField, StatorModel, discovery
from testapp.models import Order, OrderStates
from tests.app.models import Attachment, CheckLog, Hidden, Lock, NoopStates, RelatedKey

MODULE = "testapp.models"


@pytest.fixture
def apps(monkeypatch):
    with isolate_apps("testapp") as isolated:
        monkeypatch.setattr(discovery, "apps", isolated)
        yield isolated


def test_the_projects_models():
    found = discovery.stator_models()

    assert {Order, RelatedKey, Hidden} <= set(found)
    assert not {Lock, CheckLog, Attachment} & set(found)
    assert len(set(found)) == len(found)


def test_proxies_and_abstract_models_are_left_out(apps):
    class Base(StatorModel):
        __module__ = MODULE
        state = StateField(NoopStates)

        class Meta:
            abstract = True

    class Concrete(Base):
        __module__ = MODULE

    class Proxy(Concrete):
        __module__ = MODULE

        class Meta:
            proxy = True

    assert discovery.stator_models() == [Concrete]
    assert not discovery.declares_life(Proxy)


def test_children_of_a_table_are_left_out(apps):
    class Parent(StatorModel):
        __module__ = MODULE
        state = StateField(NoopStates)

    class Child(Parent):
        __module__ = MODULE
        number = models.IntegerField()

    assert discovery.stator_models() == [Parent]
    assert not discovery.declares_life(Child)


def test_models_without_a_graph_are_left_out(apps):
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(choices=[("new", "new")])

    class Plain(models.Model):
        __module__ = MODULE

    assert discovery.stator_models() == []


@isolate_apps("testapp")
def test_the_graph_of_a_child_is_its_own():
    class Base(StatorModel):
        __module__ = MODULE
        state = StateField(NoopStates)

        class Meta:
            abstract = True

    class Child(Base):
        __module__ = MODULE
        state = StateField(OrderStates)

    class Other(Base):
        __module__ = MODULE

    assert Child.state_graph is OrderStates
    assert Other.state_graph is NoopStates
    conditions = [index.condition for index in Child._meta.indexes]
    assert models.Q(state__in=["shipped"]) in conditions
    assert len(Child._meta.indexes) == len(Other._meta.indexes) + 1
