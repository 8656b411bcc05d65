"""Callables: how a check is written, and what is said of an option that a function lacks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def is_coroutine_function(check: Any) -> bool:
    """Whether a check is ``async def``, also as a classmethod, a partial or a ``__call__``."""
    return any(inspect.iscoroutinefunction(each) for each in _callables(check))


def is_generator_function(check: Any) -> bool:
    """Whether a check yields, in a plain or an ``async`` function."""
    tests = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(test(each) for test in tests for each in _callables(check))


def refuse_awaitable(of: str, result: Any, remedy: str) -> None:
    """Raise ``TypeError`` if a call returned what has to be awaited, and so did not run.

    ``of`` is what was called. Closed, a coroutine does not complain once more.
    """
    if not inspect.isawaitable(result):
        return
    if inspect.iscoroutine(result):
        result.close()
    raise TypeError(
        f"{of} is no async def, but returned an awaitable ({type(result).__name__}), which was not "
        f"run; {remedy}."
    )


def _callables(check: Any) -> tuple[Any, Any]:
    call = getattr(check, "__func__", check)
    return call, type(call).__call__


def knowing_other_words(
    of: str, meant: Mapping[str, str], others: Iterable[str] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function so that the ``TypeError`` for an unknown keyword says what is meant.

    ``of`` is what the caller called. ``meant`` has words of comparable systems, and what to say.
    ``others`` are keywords that the function takes without naming them.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = inspect.signature(function).parameters.values()
        named = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
        known = dict.fromkeys([*named, *others])

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in known:
                    raise TypeError(f"{of}() has no option {name!r}; {_remedy(name)}")
            return function(*args, **kwargs)

        def _remedy(name: str) -> str:
            if name in meant:
                return meant[name]
            options = [each for each in known if each != "self"]
            close = get_close_matches(name, options, n=1)
            return f"did you mean {close[0]}?" if close else f"it has {', '.join(options)}."

        return call

    return decorate
