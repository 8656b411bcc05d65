"""The system checks of a lifetime: the graph declares it, and the model has a column for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.checks import Error, Warning
from django.db import models
from django.test.utils import isolate_apps

from django_fsmworker import checks
from django_fsmworker.models import StateField, StateLifeEndsField, StatorModel
from tests.app.models import NoopStates, StayStates

MODULE = "testapp.models"


@pytest.fixture(autouse=True)
def apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only the models that the test declares."""
    with isolate_apps("testapp") as isolated:
        monkeypatch.setattr("django_fsmworker.checks.models.apps", isolated)
        yield


def test_all_is_well() -> None:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(StayStates)
        state_life_ends = StateLifeEndsField()
        flag = models.BooleanField(default=False)

    assert checks.check_models(None) == []


def missing(model: type[StatorModel]) -> Error:
    return Error(
        "StayStates declares a lifetime, and testapp.Shape has no column for the end of a row's "
        "life.",
        hint="Declare 'state_life_ends = StateLifeEndsField()' on it.",
        obj=model,
        id="fsmworker.E022",
    )


def test_e022_no_column() -> None:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(StayStates)

    assert [each for each in checks.check_models(None) if each.id == "fsmworker.E022"] == [
        missing(Shape)
    ]


def test_e022_another_name() -> None:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(StayStates)
        ends = StateLifeEndsField()

    assert [each for each in checks.check_models(None) if each.id == "fsmworker.E022"] == [
        missing(Shape)
    ]


def test_w005_no_lifetime() -> None:
    class Shape(StatorModel):
        __module__ = MODULE
        state = StateField(NoopStates)
        state_life_ends = StateLifeEndsField()

    assert checks.check_models(None) == [
        Warning(
            "testapp.Shape.state_life_ends is for the end of a row's life, and NoopStates declares "
            "no lifetime, so no life ends.",
            hint="Declare StateGraph.lifetime(target, after) in the graph, or remove the field.",
            obj=Shape,
            id="fsmworker.W005",
        )
    ]
