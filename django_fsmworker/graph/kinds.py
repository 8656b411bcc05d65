"""What kind of function a check is."""

from __future__ import annotations

import inspect
from typing import Any


def is_coroutine_function(check: Any) -> bool:
    """Whether it is ``async def``, also as a classmethod, a partial or a ``__call__``."""
    return any(inspect.iscoroutinefunction(each) for each in _callables(check))


def is_generator_function(check: Any) -> bool:
    """Whether it yields, plainly or ``async``."""
    kinds = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(kind(each) for kind in kinds for each in _callables(check))


def _callables(check: Any) -> tuple[Any, Any]:
    call = getattr(check, "__func__", check)
    return call, type(call).__call__
