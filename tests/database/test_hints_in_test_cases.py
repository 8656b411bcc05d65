"""A test case's own transaction never commits: nothing is to be told, and nothing registered."""

from __future__ import annotations

from django.db import connection, transaction
from django.test import TestCase

from tests.app.models import Noop, Trouble


class HintsInTestCases(TestCase):
    def test_no_callback_is_registered(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            Noop.objects.create()
            Noop.objects.bulk_create([Noop(), Noop()])
            with transaction.atomic():
                Trouble.objects.create(state="waiting").state_transition("new")

        self.assertEqual(callbacks, [])
        self.assertEqual(connection.run_on_commit, [])

    def test_no_query_is_added(self) -> None:
        with self.assertNumQueries(1):
            Noop.objects.create()
