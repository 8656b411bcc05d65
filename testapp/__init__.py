"""A runnable Django project: the demo, and the example of the README."""

from __future__ import annotations
