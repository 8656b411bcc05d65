"""The states that a row went through, as its history or the runs of a test show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connections, router
from django.db.models.signals import post_save
from django.dispatch import receiver

from django_fsmworker.graph import State
from django_fsmworker.models import FailureRecord, StatorModel
from django_fsmworker.models.keys import declaring_model, key_of, records_of, stored


@dataclass
class Track:
    """What was seen of one row: the states it was in, and since when."""

    test: list[Any]
    seen: list[tuple[str, datetime]] = field(default_factory=list)

    def see(self, state: str, changed: datetime) -> None:
        """The row is in ``state`` since ``changed``.

        If it was seen so before, it has been put back since, by a rollback; if not, it went on.
        """
        if (state, changed) in self.seen:
            del self.seen[self.seen.index((state, changed)) + 1 :]
        else:
            self.seen.append((state, changed))

    @property
    def states(self) -> list[str]:
        return [state for state, _ in self.seen]


_tracks: dict[tuple[type[Any], str, Any], Track] = {}


def assert_path(row: Any, expected: Sequence[State | str]) -> None:
    """Fail unless ``row`` went through exactly the states of ``expected``, the present one last.

    A model with a ``state_history`` is asked for it. For any other the path is made of where
    ``run_until_idle`` and ``step`` saw the row, where it was created and where it is now: several
    moves by hand between two of these count as one.
    """
    wanted, actual = [str(state) for state in expected], path(row)
    if actual != wanted:
        raise AssertionError(
            f"{row._meta.label} {row.pk} went another way than expected.\n"
            f"expected: {shown(wanted)}\n"
            f"  actual: {shown(actual)}{_last_failure(row)}"
        )


def path(row: Any) -> list[str]:
    """The names of the states that ``row`` went through, as far as anybody saw."""
    model = type(row)
    present = stored(row, _alias(row))
    if any(each.attname == "state_history" for each in model._meta.concrete_fields):
        histories = present.values_list("state_history", flat=True)
        return [state for history in histories for state, _ in history or []]
    for state, changed in present.values_list("state", "state_changed"):
        track(row).see(state, changed)
    return track(row).states


def see(row: Any) -> None:
    """Note where ``row``, as it was just loaded, is."""
    track(row).see(row.state, row.state_changed)


def track(row: Any) -> Track:
    """What was seen of ``row`` in this test; another test's row may have had the same key."""
    using = _alias(row)
    key, test = _track_key(row, using), _test(using)
    if key not in _tracks or _tracks[key].test != test:
        _tracks[key] = Track(test)
    return _tracks[key]


def shown(states: Sequence[str]) -> str:
    """A path as people read it."""
    return " → ".join(states) or "(none)"


@receiver(post_save, dispatch_uid="django_fsmworker.testing")
def _begin(sender: Any, instance: Any, created: bool, using: str, **kwargs: Any) -> None:
    """A row is created: whatever had its key before was another one."""
    if created and issubclass(sender, StatorModel):
        _tracks[_track_key(instance, using)] = Track(_test(using))
        if isinstance(instance.state_changed, datetime):
            see(instance)


def _track_key(row: Any, using: str) -> tuple[type[Any], str, Any]:
    return declaring_model(type(row)), using, key_of(row)


def _test(using: str) -> list[Any]:
    """The transactions of the ``TestCase`` that runs, if any: its rows end with them."""
    return [
        block
        for block in connections[using].atomic_blocks
        if getattr(block, "_from_testcase", False)
    ]


def _alias(row: Any) -> str:
    alias: str = row._state.db or router.db_for_write(type(row), instance=row)
    return alias


def _last_failure(row: Any) -> str:
    known = FailureRecord.objects.using(_alias(row)).filter(
        **records_of(type(row), [key_of(row)]), resolved=None
    )
    return "".join(f"\n failing: {each.error}: {each.message}" for each in known)
