"""The package's loggers: a line of the log is one event, whatever a key or an error's text has."""

from __future__ import annotations

import logging


def logger_for(name: str) -> logging.Logger:
    """The logger of that name, whose messages stay on one line."""
    logger = logging.getLogger(name)
    logger.addFilter(_escape)  # added once, however often
    return logger


def shown(value: object) -> object:
    """``value``, or its text with escapes for what would end a line or steer a terminal.

    Keys and the messages of exceptions are data: a newline in them would begin a line that nobody
    logged.
    """
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    if text.isprintable():
        return value
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _escape(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(map(shown, record.args))
    return True
