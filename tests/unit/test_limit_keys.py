"""Keys of limits and pauses, however they are given, and how they are shown."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import models
from django.test import override_settings

from django_fsmworker.models.limits import WHOLE_LANE, key_digest, key_text, stored_key

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PARIS = timezone(timedelta(hours=1))
PLACES = models.DecimalField(max_digits=10, decimal_places=3)


class TestStoredKey:
    @pytest.mark.parametrize(
        ("field", "given", "stored"),
        [
            (models.IntegerField(), None, None),
            (models.IntegerField(), "7", 7),
            (models.CharField(), "", ""),
            (models.UUIDField(), "0" * 31 + "1", UUID(int=1)),
            (PLACES, Decimal("1.5"), Decimal("1.500")),
            (PLACES, "1", Decimal("1.000")),
            (PLACES, Decimal("1e40"), Decimal("1e40")),
            (models.DateField(), "2026-01-01", date(2026, 1, 1)),
            (models.DateTimeField(), "2026-01-01 12:00", NOON),
            (models.DateTimeField(), datetime(2026, 1, 1, 12), NOON),  # noqa: DTZ001
            (models.DateTimeField(), NOON.astimezone(PARIS), NOON),
        ],
    )
    def test_is_what_a_row_has_that_was_read(self, field: Any, given: Any, stored: Any) -> None:
        found = stored_key(field, given)

        assert (found, key_text(found)) == (stored, key_text(stored))

    def test_a_naive_time_stays_so_without_time_zones(self) -> None:
        naive = datetime(2026, 1, 1, 12)  # noqa: DTZ001

        with override_settings(USE_TZ=False):
            assert stored_key(models.DateTimeField(), naive) == naive

    @pytest.mark.parametrize("given", [ContentType(pk=7), 7, "7"])
    def test_a_related_row_stands_for_its_key(self, given: Any) -> None:
        assert stored_key(Permission._meta.get_field("content_type"), given) == 7

    @pytest.mark.parametrize("name", ["content_type", "codename"])
    def test_another_row_does_not(self, name: str) -> None:
        with pytest.raises(ValidationError, match="a row of auth.Permission is no value of"):
            stored_key(Permission._meta.get_field(name), Permission(pk=7))


class TestText:
    @pytest.mark.parametrize(
        ("key", "text"), [(WHOLE_LANE, ""), (None, "NULL"), ("", '""'), (0, "0"), ("dhl", "dhl")]
    )
    def test_tells_a_key_from_a_whole_lane(self, key: Any, text: str) -> None:
        assert key_text(key) == text

    def test_of_a_time_is_the_same_in_every_zone(self) -> None:
        there = NOON.astimezone(PARIS)

        assert key_text(there) == "2026-01-01 12:00:00+00:00"
        assert key_digest(there) == key_digest(NOON)
