"""What a database has to be able to do for hints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django_fsmworker.models.hints import Hint


class Listener(ABC):
    """Receives the hints of one database.

    All methods but ``interrupt()`` are for the thread that created it. What the database refuses is
    raised as Django's ``DatabaseError``; what somebody sends is never raised, whatever it is.
    """

    @abstractmethod
    def wait(self, timeout: float) -> list[Hint | None]:
        """The hints that have arrived, as soon as there are any; [] after ``timeout`` seconds.

        None stands for a message that is no hint.
        """

    def interrupt(self) -> None:
        """End a wait that may last; called from any thread."""
        return

    def unheard(self, wrapper: Any) -> AbstractContextManager[None]:
        """A context in which what is written on that connection does not arrive here.

        ``wrapper`` is Django's, of the thread that writes, which is not the listener's.
        """
        return nullcontext()

    @abstractmethod
    def close(self) -> None:
        """Give up the connection, whatever state it is in."""


class HintTransport(ABC):
    """Carries hints between processes by the database behind one alias."""

    # Whether hints are messages of their senders. Those may be lost on the way, and one stands for
    # all that its sender commits in a short window. Otherwise listeners see by themselves that
    # something was committed.
    is_sent: bool

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @abstractmethod
    def send(self, hint: Hint) -> bool:
        """Send a hint to every listener, on the calling thread's own connection; whether it was.

        Nothing is sent inside a transaction: it would have to wait for its commit.
        """

    @abstractmethod
    def listen(self) -> Listener:
        """A listener, which receives what is sent from now on."""
