"""The trace that code is part of, in the words of the W3C's Trace Context.

OpenTelemetry is asked only where the project, or a library of its, has loaded it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

LONGEST = 55

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def current_trace() -> str:
    """The ``traceparent`` of the span that is active here; empty without one."""
    context = _context()
    if context is None:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def trace_if_active() -> Callable[[], str] | None:
    """What gives the ``traceparent`` of the span that is active here; None without one."""
    trace = current_trace()
    return partial(str, trace) if trace else None


def id_of(trace: str) -> str:
    """The id of the trace that a ``traceparent`` belongs to, as logs have it; empty of none."""
    return trace[3:35]


def is_trace(text: Any) -> bool:
    """Whether ``text`` is a ``traceparent``."""
    return isinstance(text, str) and _TRACEPARENT.fullmatch(text) is not None


def _context() -> Any:
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None
