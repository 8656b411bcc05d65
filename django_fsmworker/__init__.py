"""Reliable lives for rows of Django models: declare a state graph, run it with ``runstator``."""

from __future__ import annotations

__version__ = "0.1.0"
