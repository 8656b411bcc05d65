"""The demo's rows: files that are fingerprinted, archived, read back and, in the end, expired."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, models
from django.dispatch import receiver

from django_fsmworker.graph import State, StateGraph, constant
from django_fsmworker.models import StateField, StatorModel
from django_fsmworker.signals import row_expired
from testapp.demo import contents, names, places
from testapp.demo.checklog import note_begin

# How long a row stays when all is done, in seconds.
KEPT = timedelta(seconds=float(os.environ.get("DEMO_EXPIRE_AFTER") or 86400))

# A big file takes its time, however short the leases are; a bad one is given up soon.
PATIENCE: dict[str, Any] = {"max_attempts": 4, "backoff": constant(0.2), "deadline": 900}


class FileStates(StateGraph):
    found = State(force_initial=True, **PATIENCE)
    fingerprinted = State(**PATIENCE)
    copied = State(**PATIENCE)
    twin = State(retry_after=1, **PATIENCE)
    archived = State(delete_after=KEPT)
    duplicate = State(delete_after=KEPT)
    failed = State()

    found.transitions_to(fingerprinted, twin)
    fingerprinted.transitions_to(copied)
    copied.transitions_to(archived)
    twin.transitions_to(duplicate, found)

    found.fails_to(failed)
    fingerprinted.fails_to(failed)
    copied.fails_to(failed)
    twin.fails_to(failed)

    @classmethod
    def check_found(cls, row: File) -> Any:
        """Read the file. The first one to have this content keeps it; the others are its twins."""
        note_begin(row)
        path = names.from_text(row.path)
        found = contents.fingerprint(path)
        known = {
            "sha256": found.sha256,
            "size": found.size,
            "type": contents.content_type(path)[:100],
        }
        if row.take(known):
            return cls.fingerprinted
        row.note(known | {"keeps": None})
        return cls.twin

    @classmethod
    def check_fingerprinted(cls, row: File) -> Any:
        """Write the compressed copy."""
        note_begin(row)
        contents.pack(names.from_text(row.path), places.copy_of(row.pk), row.fingerprint)
        return cls.copied

    @classmethod
    def check_copied(cls, row: File) -> Any:
        """Read the copy back and compare."""
        note_begin(row)
        contents.compare(places.copy_of(row.pk), row.fingerprint)
        return cls.archived

    @classmethod
    def check_twin(cls, row: File) -> Any:
        """A duplicate only once the content is safe; a content that was not is taken up again."""
        note_begin(row)
        keeper = File.objects.filter(keeps=row.sha256).first()
        if keeper is not None and keeper.state == cls.archived:
            return cls.duplicate
        if keeper is not None and keeper.state == cls.failed:
            File.objects.filter(pk=keeper.pk, state=cls.failed).update(keeps=None)
            keeper = None
        return cls.found if keeper is None else None


class File(StatorModel):
    state = StateField(FileStates)
    path = models.TextField()
    size = models.BigIntegerField(null=True, editable=False)
    type = models.CharField(max_length=100, editable=False, default="")
    sha256 = models.CharField(max_length=64, editable=False, default="")
    # The content this row keeps for all its twins. Unique: of two equal files that are
    # fingerprinted at the same moment, the database lets one have it.
    keeps = models.CharField(max_length=64, editable=False, null=True, unique=True)  # noqa: DJ001

    def __str__(self) -> str:
        return names.for_people(self.path)

    @property
    def fingerprint(self) -> contents.Fingerprint:
        return contents.Fingerprint(self.sha256, self.size or 0)

    def take(self, known: dict[str, Any]) -> bool:
        """Note what is known of the content and keep it, unless another row does."""
        if File.objects.filter(keeps=known["sha256"]).exclude(pk=self.pk).exists():
            return False
        try:
            self.note(known | {"keeps": known["sha256"]})
        except IntegrityError:
            # Since that look another row has taken it.
            return False
        return True

    def note(self, known: dict[str, Any]) -> None:
        """Save what is known, fenced as the transition is: a late worker changes nothing."""
        File.objects.filter(pk=self.pk, state_claim=self.state_claim).update(**known)


@receiver(row_expired, sender=File)
def remove_copy(sender: Any, pk: int, **kwargs: Any) -> None:
    """The copy goes after the row; what a kill between the two leaves, the next demo clears."""
    places.copy_of(pk).unlink(missing_ok=True)
