"""What MariaDB's and MySQL's numbers mean for the work at hand."""

from __future__ import annotations

import pytest
from django.db import DataError, IntegrityError, OperationalError

from django_fsmworker.store import errors


def raised(kind, *arguments):
    """As Django raises what a driver raised."""
    try:
        try:
            raise Exception(*arguments)
        except Exception as error:
            raise kind(*arguments) from error
    except kind as error:
        return error


def verdicts(error):
    return errors.is_contention(error), errors.is_outage(error), errors.is_refusal(error)


@pytest.mark.parametrize("number", [1020, 1205, 1213, 1412, 3101, 3572])
def test_these_numbers_are_contention(number):
    assert verdicts(raised(OperationalError, number, "try again")) == (True, False, False)


@pytest.mark.parametrize(
    "number",
    [0, 1021, 1030, 1040, 1045, 1047, 1053, 1114, 1290, 1836, 1927, 2002, 2003, 2006, 2013, 4031],
)
def test_these_numbers_are_outages(number):
    assert verdicts(raised(OperationalError, number, "gone")) == (False, True, False)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (IntegrityError, 1062),  # a duplicate
        (IntegrityError, 1451),  # a foreign key
        (OperationalError, 4025),  # a CHECK constraint, which PyMySQL calls operational
        (DataError, 1406),  # too long
        (DataError, 1441),  # a moment out of range
        (OperationalError, 1644),  # a trigger's SIGNAL
        (OperationalError, 1153),  # a packet too large: a smaller batch fits
    ],
)
def test_these_numbers_are_refusals_of_a_row(kind, number):
    assert verdicts(raised(kind, number, "no")) == (False, False, True)


def test_the_words_of_a_message_do_not_count():
    error = raised(OperationalError, 1205, "Lock wait timeout exceeded; the table is locked")

    assert errors.is_contention(error)
    assert not errors.is_contention(raised(OperationalError, 1030, "the database is locked"))


@pytest.mark.parametrize("number", [1317, 1969, 3024])
def test_of_a_statement_that_was_ended_nobody_is_to_blame(number):
    error = raised(OperationalError, number, "interrupted")

    assert verdicts(error) == (False, False, False)
    assert errors.is_cancelled(error)


class TestBehindOthers:
    def test_behind_an_error_of_the_checks_own(self):
        try:
            try:
                raise raised(OperationalError, 2013, "Lost connection")
            except OperationalError as error:
                raise RuntimeError("the shop is closed") from error
        except RuntimeError as error:
            assert errors.tells_of(error, errors.is_outage)

    def test_only_a_database_speaks_of_it(self):
        assert not errors.tells_of(raised(RuntimeError, 2013, "no"), errors.is_outage)
