"""What a database has to be able to do for hints."""

from __future__ import annotations

from abc import ABC, abstractmethod

EVERY_MODEL = "*"


class Listener(ABC):
    """Hears the hints of one database; all but ``interrupt()`` is for the thread that created it.

    Anything the database refuses is raised as Django's ``DatabaseError``.
    """

    @abstractmethod
    def wait(self, timeout: float) -> list[str]:
        """What was said, as soon as it is; nothing after ``timeout`` seconds at the latest."""

    def interrupt(self) -> None:
        """End a wait that may last; called from any thread."""
        return

    @abstractmethod
    def close(self) -> None:
        """Give up the connection, whatever state it is in."""


class Hints(ABC):
    """Sending and hearing hints, for the database behind one alias.

    A hint is ``<app.Model> <now or soon>``; the label may be ``EVERY_MODEL``.
    """

    # Whether a listener may hear nothing although it listens, so that it has to be tried out.
    may_be_deaf: bool

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @abstractmethod
    def notify(self, payload: str) -> bool:
        """Tell every listener, on the calling thread's own connection; whether it was sent.

        Nothing is sent inside a transaction: it would have to wait for its commit.
        """

    @abstractmethod
    def listen(self) -> Listener:
        """Hear from now on; what was said before is not told."""
