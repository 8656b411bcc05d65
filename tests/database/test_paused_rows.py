"""Which rows a pause is about, as a condition of the database."""

from __future__ import annotations

import pytest

from django_fsmworker.diagnosis.paused import paused_rows
from django_fsmworker.graph.limits import Limits
from django_fsmworker.pauses import pause
from django_fsmworker.store import pauses as store_pauses
from tests.app.models import Parcel
from tests.app.models.parcels import ParcelStates

CARRIERS = (1, 2, None)

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture
def parcels():
    made = [
        Parcel(state=state, carrier=carrier)
        for state in ("keyed", "fair", "new")
        for carrier in CARRIERS
    ]
    return Parcel.objects.bulk_create(made)


def paused() -> set[tuple[str, int | None]]:
    found = Parcel.objects.filter(paused_rows(Parcel, "default"))
    return set(found.values_list("state", "carrier"))


def test_none_without_a_pause(parcels):
    assert paused() == set()


def test_a_state(parcels):
    pause(Parcel, "fair")

    assert paused() == {("fair", carrier) for carrier in CARRIERS}


def test_a_key_of_a_state(parcels):
    pause(Parcel, "keyed", key=1)

    assert paused() == {("keyed", 1)}


def test_a_key_of_all_states_that_have_keys(parcels):
    pause(Parcel, key=None)

    assert paused() == {("keyed", None), ("fair", None)}


@pytest.mark.parametrize("what", [Parcel, None])
def test_a_model_and_every_model(parcels, what):
    pause(what)

    assert len(paused()) == 9


def test_a_key_that_no_row_can_have(parcels):
    """The column was of another type when it was paused."""
    store_pauses.add("default", "tests.Parcel", "keyed", "dhl", None)

    assert paused() == set()


def test_rows_with_an_empty_text_are_a_key(parcels, monkeypatch):
    monkeypatch.setattr(ParcelStates.fair, "limits", Limits(fair_by="mode"))
    Parcel.objects.filter(carrier=1).update(mode="")
    (record,) = pause(Parcel, "fair", key="")

    assert str(record) == 'tests.Parcel.fair.""'
    assert paused() == {("fair", 1)}
