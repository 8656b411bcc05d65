"""What is sent with an event: ``event.context``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def context_of(trigger: str, given: Any) -> dict[str, Any]:
    """A dictionary of its own with what was given as ``context=`` for the event ``trigger``.

    Of a ``QueryDict``, as ``request.POST`` is one, it has the last value of each key, as
    ``request.POST["key"]`` has. Raises ``TypeError`` for what is no mapping with text for keys.
    """
    if not given:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise TypeError(
            f"The context of {trigger} is a {type(given).__name__} and no mapping with text for "
            f"keys; give one, such as {{'amount': 3}}."
        )
    return dict(given.items())
