"""The package's loggers: a line of the log is one event, whatever a key or an error's text has."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import partial

# The extra fields whose values come from the data.
FROM_DATA = ("pk", "state", "tenant", "error")


def logger_for(name: str) -> logging.Logger:
    """The logger of that name, whose messages stay on one line.

    A traceback follows its line indented, so that none of its lines looks like another event. What
    a handler raises goes to the standard error, and does not reach the code that logs.
    """
    logger = logging.getLogger(name)
    logger.addFilter(_escape)  # added once, however often
    vars(logger).setdefault("handle", partial(_handle, logger.handle))
    return logger


def _handle(handle: Callable[[logging.LogRecord], None], record: logging.LogRecord) -> None:
    """Give a record to the handlers, which are the project's.

    Those of the standard library report what goes wrong in them, and go on; one that writes to a
    database, or to a service, may raise when that is away, on a thread that the runner needs.
    """
    try:
        handle(record)
    except Exception:
        if logging.raiseExceptions:  # as logging itself does
            traceback.print_exc()


def shown(value: object) -> object:
    """``value``, or its text with escapes for what would end a line or steer a terminal.

    Keys and the messages of exceptions are data: a newline in them would begin a line that nobody
    logged.
    """
    if value is None or isinstance(value, int | float):
        return value
    try:
        text = str(value)
    except Exception as error:
        return f"(its text cannot be had: {type(error).__name__})"
    return value if text.isprintable() else _escaped(text)


def _escaped(text: str) -> str:
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _escape(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(map(shown, record.args))
    fields = record.__dict__
    for name in FROM_DATA:
        if name in fields:
            fields[name] = shown(fields[name])
    if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
        record.exc_text = _indented(record.exc_info[1])
    return True


def _indented(error: BaseException) -> str:
    """The traceback, as formatters write it that find none made already."""
    lines = "".join(traceback.format_exception(error)).split("\n")
    return "\n".join(f"  {_escaped(line.expandtabs())}" for line in lines if line)
